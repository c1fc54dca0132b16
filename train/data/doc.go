// Package data turns datasets into what training reads: an index, then a pack.
//
// An index is one Parquet table with a row per image: who, which study, which view and how it is known, which split, what
// the labels say, what the report says, where the file lies. [IndexMIMIC], [IndexCheXpert], [IndexPadChest] and [IndexNIH] make
// one from a dataset's own tables, [IndexDICOM] from a folder of DICOM files; [WriteIndex] and [ReadIndex] keep it. A pack is a
// folder of three files made by [MakePack] from any number of indexes: images.u8, the pixels of every image as dicom/cxr stores
// them (256x256 bytes each, one after the other), index.parquet, the rows in the order of the images, and manifest.json with
// counts and digests. [Open] maps a pack into memory.
//
// Nothing is passed over in silence: what is left out, or kept although something is odd, comes back as [Remark]s that
// name every item. [Audit] refuses images in which a patient is on both sides of a split; indexing, packing and opening
// all call it.
//
// Errors and remarks name files, never patients: a patient or study is named by [Hashed].
package data
