package pacs

import (
	"context"
	"fmt"
	"io"
)

// Association names one association of a peer with this server.
type Association struct {
	ID        string // unlike that of every other association of every run
	CallingAE string // the peer's AE title
	CalledAE  string // ours, as the peer wrote it
	Remote    string // the peer's network address, without port
}

// Object is what a peer announced of the object that follows. Nothing of it has been compared with the object itself.
type Object struct {
	Association
	SOPClassUID       string
	SOPInstanceUID    string
	TransferSyntaxUID string
	Urgent            bool // its priority is HIGH
}

// Archive keeps received objects. Its methods are called from one goroutine per association.
type Archive interface {
	// Keep reads part10, a whole Part 10 stream, to its end, and returns nil only when it is durable on disk: written,
	// synced, renamed, its folder synced. The peer is then told success. An error that wraps a [*StatusError] chooses what
	// the peer is told instead; any other means [StatusOutOfResources]. If reading fails the peer has gone, or sends what it may
	// not: Keep returns that error and leaves nothing behind.
	Keep(ctx context.Context, o Object, part10 io.Reader) error

	// Holds says whether Keep has returned nil for that object and it is still there. Storage commitment is answered by it. The
	// class is empty where who asks does not know it: a PACS need not tell when it is queried.
	Holds(ctx context.Context, sopClassUID, sopInstanceUID string) (bool, error)

	// Released is called when a peer has ended an association in order: it has sent all that it meant to send in it. After an
	// abort or a lost connection it is not called.
	Released(ctx context.Context, a Association)
}

// Status is a DIMSE status (PS3.7 annex C).
type Status uint16

// The statuses that this package sends or knows (PS3.7 C, PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5).
const (
	StatusSuccess          Status = 0x0000
	StatusProcessing       Status = 0x0110 // processing failure
	StatusNoSuchInstance   Status = 0x0112
	StatusInvalidInstance  Status = 0x0117
	StatusNoSuchSOPClass   Status = 0x0118
	StatusClassConflict    Status = 0x0119 // the instance is of another class
	StatusClassUnsupported Status = 0x0122
	StatusNoSuchAction     Status = 0x0123
	StatusDuplicateRequest Status = 0x0210 // duplicate invocation
	StatusUnrecognised     Status = 0x0211 // unrecognized operation
	StatusMistyped         Status = 0x0212 // mistyped argument
	StatusLimit            Status = 0x0213 // resource limitation
	StatusOutOfResources   Status = 0xA700
	StatusNotMatching      Status = 0xA900 // data set does not match SOP class
	StatusNotUnderstood    Status = 0xC000
	StatusCancelled        Status = 0xFE00
	StatusPending          Status = 0xFF00
	StatusPendingWarning   Status = 0xFF01 // pending, some optional keys not supported
)

// StatusError is an error that a peer is told as a DIMSE status.
type StatusError struct {
	Status Status
	// Comment goes to the peer as ErrorComment, its first 64 characters. It names no patient.
	Comment string
	// Err is the cause, which the peer is not told.
	Err error
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("status %04X", uint16(e.Status))
	if e.Comment != "" {
		text += ", " + e.Comment
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *StatusError) Unwrap() error { return e.Err }
