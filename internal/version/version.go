// Package version says which version of the module a program was built from.
package version

import "runtime/debug"

// String is the module version the toolchain stamped into the program: a tag, or a pseudo-version of the commit.
func String() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
