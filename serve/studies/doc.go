// Package studies keeps studies on disk, so that what was accepted is there whatever happens next, and says when a study is
// complete.
//
// Open a [Store] on a folder. [Store.Stage] writes an arriving object to a temporary file while it arrives; [Store.Commit]
// makes one or several durable and part of their studies. [Store.Keep] does both, for one object, and [Archive] is the store as
// DIMSE sees it. [Store.Study] and [Store.All] say what is held, [Store.PutOutcome] adds what became of it. [Gate] says when
// a study is complete.
//
// The files are the truth, the index in memory is read from them: when the store is opened, and again where a folder has
// changed ([Store.Refresh]), so that several servers can share one folder. Every file is written whole under another name,
// synced, renamed or linked into place, and its folder synced. Nothing is changed in place.
//
//	incoming/                      objects on their way, removed when they are an hour old
//	studies/ab/HASH/               one study: HASH is of its UID
//	    DIGEST.dcm                 an object: DIGEST is the SHA-256 of its transfer syntax UID and data set, so that the
//	                               same object is the same file whoever sent it
//	    DIGEST.json                what the index knows of it; made anew from the object where it is missing
//	    VERSION.outcome            what became of one version of the study: VERSION is the hash of its objects' digests
//	    VERSION.attempts           a line for each time that work on a version began or failed
//	    VERSION.sent.SINK          a receiver has confirmed the outcome
//	removed/                       studies on their way out
//
// Refused are: objects without the UIDs that place them ([ErrMisplaced]), objects past [Options].MaxBytes, and every object
// while the disk is fuller than the high watermark ([ErrFull]). The same SOP Instance UID with other bytes is kept and is
// [Object].Conflict; which of the two is used is the business of the one who classifies ([Study.Used]).
package studies
