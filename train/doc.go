// Package train makes models: Pretrain runs a multi-view masked autoencoder over a pack of studies; Probe puts a linear
// classifier on its frozen encoder and Finetune trains both together. The latter two leave a run folder that export turns
// into a model file.
//
// The training loop is in loop.go; its two tasks are in pretrain.go (with v2t.go, the reports) and finetune.go. What a step computes is model's forward
// pass (graph.go lends it GoMLX nodes), loss.go, augment.go and optimizer.go: one XLA graph, compiled once, for CPU and
// CUDA alike. A batch is a fixed number of view images, whole studies packed side by side, and a matrix that says which view
// belongs to which study; no empty slots are encoded, unless recipe "code" is asked to.
//
// Everything random is drawn by the host from (seed, step), so a run resumed from a checkpoint does what the uninterrupted
// run would have done. Open a device with OpenDevice and a pack with data.Open first.
package train
