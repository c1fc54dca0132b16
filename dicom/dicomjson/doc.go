// Package dicomjson writes data sets in the DICOM JSON Model (PS3.18 annex F).
//
// [FromHeader] converts what package dicom parsed, [Dataset.Set] builds a data set from Go values; encoding/json writes either.
// All text is UTF-8 by then, and a data set says so: Specific Character Set (0008,0005) becomes ISO_IR 192.
//
// What package dicom does not keep of a file is not there either: pixels, private elements, overlays, values of more than
// 1 MiB or of VR OD, OF and OL. Such values have no BulkDataURI, since nothing here serves them.
package dicomjson
