// Package libs finds the shared libraries that are loaded at run time: ONNX Runtime and the XLA (PJRT) plugins.
//
// Call Find. It looks, in this order, in the folders named by $MVMAE_RUNTIME, beside the running program (its own folder,
// runtime/ in it, runtime/ beside it) and where the system keeps libraries. What is not found is a *MissingError, which
// says where was looked and what helps.
//
// The table in pins.go is the one place that says which file of which package serves which platform; the program in fetch
// reads it to fill runtime/. The package must stay free of the training stack: mvmae-serve imports it.
package libs
