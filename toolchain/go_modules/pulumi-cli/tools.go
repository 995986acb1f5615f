//go:build tools

// Names the one package that is built here, so that go.mod and go.sum pin the
// Pulumi CLI and everything it is made of.
package tools

import _ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
