// Package serve answers studies: DICOM objects go in, calibrated findings come out.
//
// Open makes an Engine of a model file. Engine.Classify answers one study, Engine.ClassifyAll any number; the command line
// and the HTTP server call the same two, so their numbers are the same. NewServer answers over HTTP, with limits on all
// that a caller can make grow, and stops without losing a study that it has taken in.
//
// Refused are: more than one study or patient in a request, a study of which no view can be used (each object has its own
// code in the list of the rejected), containers that are damaged or past Limits. Every refusal is a *Problem with a stable
// code. Nothing in an error's text or a log line that leaves the process for anyone but the caller names a patient or a
// UID: study UIDs are hashed there (UIDKey).
//
// The documents and codes that callers read are in package api; package client is such a caller.
package serve
