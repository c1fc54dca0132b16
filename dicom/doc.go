// Package dicom reads and writes DICOM Part 10 files without trusting them.
//
// Call [Parse] with the bytes of a file and [DefaultLimits]. A guard walks every element first: lengths, nesting,
// counts, value representations and, for the deflated syntax, the inflated size. Only then does the parser
// (github.com/suyashkumar/dicom) read the header. It never sees the pixels, whose place the guard has found, so they
// are not copied either: [File.Pixels] describes them and points into the bytes that were parsed, at native pixels or at the
// fragments of compressed ones. Package codec decodes both.
//
// What is refused comes back as an [*Error] with a stable [Code]: a file without the Part 10 preamble and "DICM"
// (as pydicom does unless forced), a transfer syntax that is unknown or no single image's (by name), a cut-off file, one past
// [Limits], one that breaks the encoding rules of PS3.5.
//
// [Write] makes Part 10 files in any syntax; pixels are written as they are.
//
// Errors name tags and lengths, never values: a header holds patient data.
package dicom
