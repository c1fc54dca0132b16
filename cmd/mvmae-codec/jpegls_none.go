//go:build !cgo || !charls

package main

import "github.com/mvmae/mvmae/dicom/codec/external"

func charlsVersion() string { return "" }

func decodeJPEGLS(external.Request) (*external.Image, error) { return nil, notBuilt(external.CharLS) }
