//go:build !cgo || !openjpeg

package main

import "github.com/mvmae/mvmae/dicom/codec/external"

func openjpegVersion() string { return "" }

func decodeJPEG2000(external.Request) (*external.Image, error) {
	return nil, notBuilt(external.OpenJPEG)
}
