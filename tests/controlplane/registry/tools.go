//go:build tools

// Package tools pins the container registry that the tests of oci:// run against.
package tools

import (
	_ "github.com/distribution/distribution/v3/cmd/registry"
)
