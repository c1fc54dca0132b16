// Package external decodes the transfer syntaxes whose decoders are C libraries, in processes of their own.
//
// A C decoder of hostile bytes must not share the address space of a server that holds other patients' images. So
// cmd/mvmae-codec, a C program, alone links CharLS (JPEG-LS) and OpenJPEG (JPEG 2000, HTJ2K), and a [Pool] hands each frame to a
// process of it. Make one pool per program with [NewPool], give it down, and close it last. Nothing is started before
// the first image that needs it.
//
// Each process decodes one image and ends: it cannot change the next patient's. It inherits no environment, no files and
// no folder, and before it looks at the image it limits its own memory, processor time, files and core dumps. One that
// dies, hangs or talks nonsense costs its image an error with the code [dicom.CodeDecoderFailed], and nothing else.
package external
