// Package codec turns the pixels of a DICOM object into a plane of gray values.
//
// Call [Decode] with dicom.File.Pixels. Monochrome pixels are not decoded at all: a [Plane] points at the bytes of the
// file and knows how a raw word becomes a stored value. Whoever maps stored values pixel by pixel (min-max, windows,
// histogram equalisation, inversion all do) makes a table of at most 65,536 entries once, from [Plane.Histogram] and
// [Plane.Value], and applies it with [Plane.SumRow] or [Plane.MapRow]: two passes over the pixels, no copy.
//
// Frame 0 is decoded. Colour becomes luma. Refused by name: palette colour, more than 16 bits allocated, the retired and
// the compressed-only colour spaces.
package codec
