// Package export writes a trained classifier as one ONNX file that is complete: weights, graph, and a model.Metadata that
// says how its input is prepared and what its outputs mean.
//
// Export does all of it: it reads a run folder, writes the graph that the trainer ran (model.Embed and model.Head over this
// package's operations), runs it with ONNX Runtime and compares the logits with those the trainer left in the run. A graph
// that differs is refused and no file is left. Inspect reads a file back.
package export
