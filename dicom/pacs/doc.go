// Package pacs talks to PACSs and modalities over the DICOM network (DIMSE, PS3.7; its services, PS3.4).
//
// A [Server] receives: make one with [NewServer] on an [Archive], which keeps the objects, and have it [Server.Serve] a
// listener. It answers C-ECHO, takes computed and digital radiographs and secondary captures by C-STORE in whatever
// transfer syntax they have, and answers requests for storage commitment from what the archive holds, in an association of
// its own. An object streams to the archive as it arrives: memory does not grow with it, and success is answered only once
// the archive says that it is durable.
//
// A [Client], from [Dial], is the other side: C-ECHO, C-STORE, C-FIND, C-MOVE and the request for commitment. [Complete]
// has a PACS send what is missing of a study.
//
// Refused, with the reason in the log and counted by [Refusal]: callers that are not listed or call from elsewhere, too
// many associations or too fast, objects past a size, peers that are silent or too slow, whatever breaks the protocol.
// Package upper is the protocol below (PS3.8).
package pacs
