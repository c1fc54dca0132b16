// Package nvidia loads NVIDIA's libraries for those that compute on a GPU, XLA and ONNX Runtime, and says which is missing.
//
// Both take cuBLAS, cuDNN and the rest with dlopen when they first need them, and then say no more than that something failed
// to load. Load goes before them: it looks for every library in the folders of $MVMAE_RUNTIME, in the Python packages nvidia-*
// beside the user, with the system's loader and in /usr/local/cuda, and loads it from there. A library is loaded once per
// process whoever asks for it by name later, so nothing needs to be on LD_LIBRARY_PATH. The Report names what did not load,
// with the cure.
//
// The package is free of the training stack and of ONNX Runtime: the server's doctor reports with it what training lacks, too.
package nvidia
