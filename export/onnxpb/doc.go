// Package onnxpb holds the messages of an ONNX file, generated from onnx.proto.
package onnxpb

//go:generate go run ./gen
