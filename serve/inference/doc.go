// Package inference reads and writes the messages of the Open Inference Protocol (KServe v2) over HTTP, with its extension of
// tensors in binary (binary_tensor_data). It knows nothing of models: what tensors mean is the server's to say.
//
// The protocol: https://github.com/kserve/open-inference-protocol; the extension: Triton's protocol/extension_binary_data.md.
package inference
