//go:build tools

// Package tools pins what the alerts and the dashboard are tested with.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
