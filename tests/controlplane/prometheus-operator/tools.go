//go:build tools

// Package tools pins the module whose custom resource definitions the monitors and rules are checked against; nothing of it is built.
package tools
