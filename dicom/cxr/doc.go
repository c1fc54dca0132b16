// Package cxr turns chest radiographs into what the model sees. It is the only preprocessing in the project: the packer,
// the evaluator, the command line and the server all call it, so the pixels a model was trained on are the pixels it is
// served.
//
// [FromDICOM] and [FromPicture] make an [Image]: a 256 x 256 picture of 8 bits, the view with the evidence for it, and
// flags. [Input] makes the model's input from the stored picture. A file that must not be classified comes back as a
// [*Refusal] with a stable code: wrong modality, another body part, raw detector data, no image, or one of package
// dicom's codes.
//
// # Pixels
//
// A [Recipe] says how stored values become 8 bits; it is part of a model file.
//
//   - mimic (how MIMIC-CXR-JPG and CheXpert were made): a -= min; trunc(a/max*255) in float64; 255-u8 for MONOCHROME1;
//     histogram equalisation by OpenCV's rule, its float32 rounding included. Rescale, windows and padding are ignored.
//   - display (what a workstation shows): Modality LUT or rescale; VOI LUT, else the first window (LINEAR, LINEAR_EXACT,
//     SIGMOID), else the full range; inversion once, last, for PresentationLUTShape INVERSE or MONOCHROME1; rounded half
//     up to 8 bits.
//
// Both are maps of single pixels, so they become one lookup table over the raw words of the file. The 8-bit image is then
// resized to 256 x 256 by area average with exact weights in integers, rounded half up. An axis of fewer than 256 pixels
// is enlarged by bilinear interpolation, just as exactly. With "+fit" the shorter side becomes 256 and the longer is cut
// to its middle 256 pixels; else both become 256.
//
// Of JPEG 2000 display leaves out the finest levels where that changes the input by 0.15 of 255 on the mean at most: see
// reduced.go.
//
// An image of one value has no contrast to stretch: a/max is taken as 0, so it is black (white if MONOCHROME1, after its
// inversion) and carries the flag constant.
//
// # Flags
//
// Flags do not block: they say what is worth knowing of an image that was accepted. Those that are read from pixels compare
// the picture, its negative and both in four orientations with the mean chest of either view, 16 x 16 fields of gray ranks; or
// count how often the gray value rises and falls along a row, as it does in a line of text.
// docs/dicom-flags.md has the list and the measured error rates.
//
// # Privacy
//
// An Image holds identifiers for grouping. They are patient data: never log them.
package cxr
