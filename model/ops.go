package model

// Ops are the tensor operations the forward pass is made of. T is a tensor of the implementation: a GoMLX node, the name
// of an ONNX value, or a shape. Axis 0 of every tensor but Param and Table is the batch; its size is never named, so one
// graph serves any batch. Implementations panic on misuse with an error as the value; the border that builds a graph
// recovers once.
type Ops[T any] interface {
	// Param is the parameter of that name in Spec.Params, with its shape there.
	Param(name string) T
	// Table is a constant [rows, cols] that takes no gradient.
	Table(name string, rows, cols int, values []float32) T

	// Linear is x w^T + b over the last axis: x [..., in], the parameters weight [out, in] and bias [out]; bias "" for
	// none.
	Linear(x T, weight, bias string) T
	// QKV is Linear to three times the width, split into queries of x [B, N, D] and keys and values of from [B, M, D], each
	// [B, heads, N or M, D/heads]: how it is laid out is the implementation's choice. For self-attention from is x.
	QKV(x, from T, weight, bias string, heads int) (q, k, v T)
	// LayerNorm normalises the last axis, with parameters name.weight and, where the network has one, name.bias.
	LayerNorm(x T, name string, eps float64) T
	// GELU is the exact form, x/2 (1 + erf(x/sqrt 2)).
	GELU(x T) T
	// Softmax is over the last axis.
	Softmax(x T) T

	// Add broadcasts as NumPy does.
	Add(a, b T) T
	// Residual is x + branch, the i-th of a stack of blocks (two a block): training may drop the branch of some images.
	Residual(x, branch T, i int) T
	// Affine is x*scale + shift.
	Affine(x T, scale, shift float64) T
	// MatMul multiplies the last two axes.
	MatMul(a, b T) T
	// MeanTokens is the mean over axis 1, of tokens or of heads: [B, N, ...] to [B, ...].
	MeanTokens(x T) T

	// Reshape keeps the batch and gives the other axes new sizes.
	Reshape(x T, dims ...int) T
	// Transpose permutes all axes; perm[0] is 0.
	Transpose(x T, perm ...int) T
	// Concat joins along axis 1.
	Concat(a, b T) T
	// Slice takes tokens [from, to) of axis 1.
	Slice(x T, from, to int) T
	// Repeat makes [B, n, D] of one row [D], with like's batch.
	Repeat(row T, n int, like T) T
	// Lookup takes rows of a table [R, D] by integer indices: [B] to [B, D], [B, K] to [B, K, D].
	Lookup(table, indices T) T
	// Take takes tokens by index: x [B, N, D], indices [B, K] to [B, K, D].
	Take(x, indices T) T
}
