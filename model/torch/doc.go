// Package torch reads networks that PyTorch programs left: safetensors files, and what torch.save wrote, without running
// any of its pickles.
//
// Load reads a file's tensors. Map finds out whose network they are (a timm vision transformer, a masked autoencoder of
// facebookresearch/mae or lambert-x/medical_mae, or the published MVMAE) and gives them in the names, shapes and scales of
// model.Spec; Open does both. What a file does not say of itself (how its pixels were scaled, the order of its labels)
// stands in a small TOML file beside it, which Notes describes.
//
// All that is not known is refused by its name: a tensor too many, one too few, a pickle that names any function or class
// other than the few that plain tensors need. A pickle is a program, and PyTorch's own loader runs it; this one only builds
// containers, scalars and descriptions of tensors.
package torch
