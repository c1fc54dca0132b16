package upper

import (
	"encoding/binary"
	"fmt"
)

// Kind is the type of a PDU (PS3.8 9.3.1).
type Kind byte

const (
	AssociateRQ Kind = 1 + iota
	AssociateAC
	AssociateRJ
	PDataTF
	ReleaseRQ
	ReleaseRP
	Abort
)

func (k Kind) String() string {
	if k < AssociateRQ || k > Abort {
		return fmt.Sprintf("PDU of type %02X", byte(k))
	}
	return [...]string{"A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "P-DATA-TF", "A-RELEASE-RQ", "A-RELEASE-RP", "A-ABORT"}[k-1]
}

const (
	headerBytes = 6
	shortBytes  = 4 // the length of every PDU of a fixed size
	// maxAssociateBytes is more than 128 presentation contexts with 20 transfer syntaxes each take.
	maxAssociateBytes = 256 << 10
	pdvHeaderBytes    = 6 // length, context, control
	// MinPDU is the smallest P-DATA-TF length that a peer may ask for: with less a message of some megabytes is millions of
	// PDUs.
	MinPDU = 512
	// MaxPDU is the largest P-DATA-TF length that is worth asking for.
	MaxPDU = 4 << 20
)

// ProtocolError is a breach of PS3.8 by the peer. Detail names types and lengths, never content.
type ProtocolError struct{ Detail string }

func (e *ProtocolError) Error() string { return "breach of the protocol: " + e.Detail }

func breach(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// checkLength compares a PDU's length with what its kind may have.
func checkLength(k Kind, length uint32, maxData uint32) error {
	switch k {
	case AssociateRQ, AssociateAC:
		if length > maxAssociateBytes {
			return breach("%s of %d bytes, the limit is %d", k, length, maxAssociateBytes)
		}
	case PDataTF:
		if length > maxData {
			return breach("%s of %d bytes, the limit is %d", k, length, maxData)
		}
	case AssociateRJ, ReleaseRQ, ReleaseRP, Abort:
		if length != shortBytes {
			return breach("%s of %d bytes in place of %d", k, length, shortBytes)
		}
	default:
		return breach("unknown %s", k)
	}
	return nil
}

func appendHeader(b []byte, k Kind, length int) []byte {
	b = append(b, byte(k), 0)
	return binary.BigEndian.AppendUint32(b, uint32(length))
}

// short encodes the PDUs of a fixed size: RJ has result, source and reason, ABORT source and reason, the others nothing.
func short(k Kind, result, source, reason byte) []byte {
	return append(appendHeader(nil, k, shortBytes), 0, result, source, reason)
}

// PDV is a fragment of a DIMSE message (PS3.8 9.3.5.1, E.2).
type PDV struct {
	ContextID byte
	Command   bool   // of the command set, not of the data set
	Last      bool   // of its kind in the message
	Data      []byte // valid until the next call of the Conn
}

const (
	controlCommand = 1
	controlLast    = 2
)

// decodePDVs splits the body of a P-DATA-TF, after it has looked at all of it.
func decodePDVs(pdvs []PDV, body []byte) ([]PDV, error) {
	if len(body) == 0 {
		return nil, breach("%s without a fragment", PDataTF)
	}
	for len(body) > 0 {
		if len(body) < pdvHeaderBytes {
			return nil, breach("%d stray bytes after the fragments of a %s", len(body), PDataTF)
		}
		n := binary.BigEndian.Uint32(body)
		if n < 2 || uint64(n) > uint64(len(body)-4) {
			return nil, breach("a fragment of %d bytes where %d are left", n, len(body)-4)
		}
		id, control := body[4], body[5]
		if id%2 == 0 {
			return nil, breach("presentation context %d: it must be odd", id)
		}
		pdvs = append(pdvs, PDV{id, control&controlCommand != 0, control&controlLast != 0, body[pdvHeaderBytes : 4+n]})
		body = body[4+n:]
	}
	return pdvs, nil
}
