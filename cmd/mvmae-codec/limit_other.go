//go:build !linux

package main

import "github.com/mvmae/mvmae/dicom/codec/external"

// limit does nothing here: only Linux limits what a process writes to. The pool's time limit holds everywhere.
func limit(external.Request, int) error { return nil }
