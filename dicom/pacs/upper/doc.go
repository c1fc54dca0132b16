// Package upper is the DICOM upper layer protocol for TCP/IP (PS3.8 chapter 9): PDUs, and the state machine of table 9-10
// that says which may come when.
//
// [Accept] answers a peer that has connected, [Request] asks one for an association. Both give a [Conn], which receives and
// sends the fragments of DIMSE messages (PDVs), releases and aborts. One goroutine uses a Conn; each call takes what events
// have come, and the table decides what is answered.
//
// Nothing of the peer's is trusted: each length is compared with what is left of the PDU around it and each PDU with the
// cap of its kind before memory is taken for it; a PDU must be whole in [Timers].PDU, so that a peer cannot hold a
// connection by the byte. What breaks the protocol is answered with A-ABORT and returned as a [*ProtocolError].
package upper
