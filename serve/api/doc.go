// Package api is what the server and those who call it have in common: the documents that it answers with, and the catalogue of
// its codes. It needs nothing of the server itself, so that a client links neither ONNX Runtime nor a queue.
package api
