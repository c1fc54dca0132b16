package api

import (
	"path"
	"strings"
)

// Skip says whether a path in a folder or an archive is none of a study's objects: hidden files, what macOS adds to
// archives, and the index of a DICOM medium (PS3.10 8.6).
func Skip(name string) bool {
	name = strings.ReplaceAll(name, `\`, "/")
	for part := range strings.SplitSeq(name, "/") {
		if part != "." && part != ".." && strings.HasPrefix(part, ".") || part == "__MACOSX" {
			return true
		}
	}
	return path.Base(name) == "DICOMDIR"
}
