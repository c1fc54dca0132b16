package pacs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mvmae/mvmae/dicom/pacs/upper"
)

// DefaultAE is our AE title where none is given.
const DefaultAE = "MVMAE"

// Options are those of a Server.
type Options struct {
	// AETitle is ours: what peers must call. Default [DefaultAE].
	AETitle string
	// Peers are who may call, and where reports of commitment go. A peer with a host may call from there alone. Without any,
	// callers on this machine are let in, whatever they call themselves.
	Peers []Node
	// Archive keeps what is received.
	Archive Archive
	// TLS, where it is set, is what peers must speak. Its ClientAuth decides whether they must show a certificate.
	TLS *tls.Config
	// PeerTLS, where it is set, is spoken to peers that reports go to.
	PeerTLS *tls.Config
	Limits  Limits
	// Committed, where it is set, is told the outcome of commitments that [Client.RequestCommitment] asked for.
	Committed func(ctx context.Context, from string, c Commitment)
	// Log gets two lines an association and one a refusal, never a patient's data. Default slog.Default().
	Log *slog.Logger
}

// Limits bound what peers may cost. The zero value of a field means its default.
type Limits struct {
	// Associations is how many there may be at a time. Default 256: one that is idle takes some 10 KiB.
	Associations int
	// AssociationsPerSec is how many may begin in a second. Default 100.
	AssociationsPerSec int
	// PDUBytes is the longest P-DATA-TF that we take, and send where the peer sets no limit. Default 256 KiB.
	PDUBytes int
	// ObjectBytes is the size of an object. Default 256 MiB, as dicom.Limits has it.
	ObjectBytes int64
	// Idle is how long an association may stay without a message. Default 5 min.
	Idle time.Duration
	// Object is how long a message may take to arrive whole. Default 30 min.
	Object time.Duration
	// Drain is how long messages at hand may take when the server is told to stop. Default 10 s.
	Drain time.Duration
	// Timers are those of the upper layer.
	upper.Timers
	// Retry are the pauses between the tries to bring a report of commitment. Default 1 s, 10 s, 1 min, 5 min, 30 min.
	Retry []time.Duration
	// Reports is how many reports of commitment may be under way. Default 256.
	Reports int
}

// DefaultLimits returns the documented defaults.
func DefaultLimits() Limits {
	return Limits{
		Associations: 256, AssociationsPerSec: 100, PDUBytes: 256 << 10, ObjectBytes: 256 << 20,
		Idle: 5 * time.Minute, Object: 30 * time.Minute, Drain: 10 * time.Second,
		Timers:  upper.Timers{ARTIM: 10 * time.Second, PDU: time.Minute},
		Retry:   []time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute},
		Reports: 256,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ value, fallback *int }{
		{&l.Associations, &d.Associations}, {&l.AssociationsPerSec, &d.AssociationsPerSec}, {&l.PDUBytes, &d.PDUBytes}, {&l.Reports, &d.Reports},
	} {
		if *f.value == 0 {
			*f.value = *f.fallback
		}
	}
	for _, f := range []struct{ value, fallback *time.Duration }{
		{&l.Idle, &d.Idle}, {&l.Object, &d.Object}, {&l.Drain, &d.Drain}, {&l.ARTIM, &d.ARTIM}, {&l.PDU, &d.PDU},
	} {
		if *f.value == 0 {
			*f.value = *f.fallback
		}
	}
	if l.ObjectBytes == 0 {
		l.ObjectBytes = d.ObjectBytes
	}
	if l.Retry == nil {
		l.Retry = d.Retry
	}
	return l
}

// validate joins all that is wrong with o.
func (o *Options) validate() error {
	var errs []error
	if err := CheckAE(o.AETitle); err != nil {
		errs = append(errs, err)
	}
	for _, p := range o.Peers {
		if err := CheckAE(p.AE); err != nil {
			errs = append(errs, err)
		}
	}
	if o.Archive == nil {
		errs = append(errs, errors.New("no archive to keep objects in"))
	}
	if n := o.Limits.PDUBytes; n < upper.MinPDU || n > upper.MaxPDU {
		errs = append(errs, fmt.Errorf("a PDU of %d bytes: it must be within [%d, %d]", n, upper.MinPDU, upper.MaxPDU))
	}
	return errors.Join(errs...)
}

// Refusal is why something of a peer's was refused. The values are stable: they label counts.
type Refusal string

const (
	RefusedCaller     Refusal = "calling_ae"    // not in the list
	RefusedHost       Refusal = "calling_host"  // in the list with another host, or no list and another machine
	RefusedCalled     Refusal = "called_ae"     // not our title
	RefusedTooMany    Refusal = "associations"  // past Limits.Associations
	RefusedTooFast    Refusal = "rate"          // past Limits.AssociationsPerSec
	RefusedTLS        Refusal = "tls"           // no TLS, or a certificate that does not hold
	RefusedProtocol   Refusal = "protocol"      // breaks PS3.7 or PS3.8
	RefusedSlow       Refusal = "timeout"       // said nothing in time
	RefusedContext    Refusal = "context"       // a presentation context for what is not offered
	RefusedOperation  Refusal = "operation"     // a message that is not offered
	RefusedObject     Refusal = "object"        // by the archive
	RefusedLarge      Refusal = "object_size"   // past Limits.ObjectBytes
	RefusedIdentity   Refusal = "object_uid"    // UIDs that are none
	RefusedCommitment Refusal = "commitment"    // no address for the report, or too many under way
	RefusedLost       Refusal = "object_broken" // the association ended inside an object
)

// Counts are what a Server has done since it was made.
type Counts struct {
	Associations int64 // accepted
	Open         int64 // of these, now
	Released     int64 // of these, in order
	Objects      int64 // kept
	Bytes        int64 // of their data sets
	Echoes       int64
	Commitments  int64 // reports that a peer has taken
	Refused      map[Refusal]int64
}
