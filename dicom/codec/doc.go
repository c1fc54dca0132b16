// Package codec turns the pixels of a DICOM object into a plane of gray values.
//
// Call [Decode] with dicom.File.Pixels. Native monochrome pixels are not decoded at all: a [Plane] points at the bytes of the
// file and knows how a raw word becomes a stored value. Whoever maps stored values pixel by pixel (min-max, windows,
// histogram equalisation, inversion all do) makes a table of at most 65,536 entries once, from [Plane.Histogram] and
// [Plane.Value], and applies it with [Plane.MapRow]: two passes over the pixels, no copy.
//
// Frame 0 is decoded. Colour, that of palettes too, becomes luma. RLE, lossless JPEG (process 14) and sequential JPEG by DCT
// of 8 and 12 bits are decoded here, lossless ones exactly, the others to the very samples of libjpeg's accurate method.
// [Decoders] adds other transfer syntaxes. A code stream must be of the size, components and bits that the header says, and
// be there to the last pixel: nothing is guessed. What it makes this package allocate is bounded by the header's pixels, of
// which dicom.Limits has the largest number, and by its own length.
//
// Refused by name: more than 16 bits allocated, segmented palettes, progressive, hierarchical and arithmetic JPEG, the
// retired and the JPEG 2000 colour spaces, transfer syntaxes without a decoder.
package codec
