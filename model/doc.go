// Package model is the network itself: its shape (Spec), its parameters by name (Spec.Params), its forward pass, written
// once (Encode, Decode, Classify), and the files that hold it (Checkpoint, Metadata).
//
// The forward pass is generic over Ops, a small interface of tensor operations. Three packages implement it: train
// with GoMLX graph nodes, export with ONNX nodes, and this one with a Counter that checks shapes and counts
// operations. So the graph that is served cannot drift from the one that was trained.
//
// Start with Preset, or with Spec.Validate on a Spec of your own; then read forward.go, which fits on two screens.
package model
