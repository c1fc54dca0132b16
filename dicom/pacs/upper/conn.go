package upper

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Timers are how long a peer may take. The zero value of a field means its default.
type Timers struct {
	// ARTIM is how long a connection may stay without an association: before it is asked for, while it is answered, and after
	// it is over (PS3.8 9.1.5). Default 10 s.
	ARTIM time.Duration
	// PDU is how long a PDU may take to arrive once it has begun, and how long one of ours may take to leave. Default 1 min:
	// with the default limits the slowest sender has 4 KiB/s.
	PDU time.Duration
}

func (t Timers) withDefaults() Timers {
	if t.ARTIM == 0 {
		t.ARTIM = 10 * time.Second
	}
	if t.PDU == 0 {
		t.PDU = time.Minute
	}
	return t
}

// afterCancel is how long a peer is waited for once nobody wants the association any more.
const afterCancel = time.Second

// ErrIdle is what [Conn.Receive] returns when nothing came in time. The association is over.
var ErrIdle = errors.New("the peer said nothing in time")

// ErrLost is a connection that ended without release or abort.
var ErrLost = errors.New("the peer closed the connection without release or abort")

// AbortError is an A-ABORT of the peer's.
type AbortError struct{ Source, Reason byte }

func (e *AbortError) Error() string {
	if e.Source != abortByProvider {
		return "the peer aborted the association"
	}
	reasons := [...]string{"no reason given", "unrecognized PDU", "unexpected PDU", "reserved", "unrecognized PDU parameter",
		"unexpected PDU parameter", "invalid PDU parameter value"}
	return fmt.Sprintf("the peer's protocol machine aborted the association (%s)", reasons[min(int(e.Reason), 6)])
}

// The sources and reasons of an A-ABORT (PS3.8 table 9-26).
const (
	abortByUser     = 0
	abortByProvider = 2

	abortNoReason      = 0
	abortUnexpectedPDU = 2
	abortInvalidValue  = 6
)

// Conn is one association. One goroutine uses it.
type Conn struct {
	nc        net.Conn
	r         *bufio.Reader
	timers    Timers
	maxData   uint32 // the P-DATA-TF length that we take
	peer      *Associate
	state     State
	requestor bool
	artim     time.Time // when it expires; zero while it is stopped

	body []byte // of the PDU that was read last
	pdvs []PDV
	out  []byte
}

func newConn(nc net.Conn, timers Timers, maxData uint32, requestor bool) *Conn {
	// The reader holds little more than headers: bodies go past it into body.
	return &Conn{nc: nc, r: bufio.NewReaderSize(nc, 1<<10), timers: timers.withDefaults(), maxData: maxData, requestor: requestor, state: stIdle}
}

// Peer is what the peer said of itself and the association.
func (c *Conn) Peer() *Associate { return c.peer }

// MaxFragment is the length of the longest fragment to send.
func (c *Conn) MaxFragment() int {
	n := c.maxData
	if c.peer.MaxPDU != 0 {
		n = min(n, c.peer.MaxPDU)
	}
	return int(n) - pdvHeaderBytes
}

// fire has the table decide about an event and does what it says. pdu is what goes out if a PDU does.
func (c *Conn) fire(e event, pdu []byte) (effect, error) {
	f, ok := step(e, c.state, c.requestor)
	if !ok {
		return f, fmt.Errorf("%s cannot be in %s", e, c.state)
	}
	switch f.artim {
	case start:
		c.artim = time.Now().Add(c.timers.ARTIM)
	case stop:
		c.artim = time.Time{}
	}
	c.state = f.next
	if f.send != 0 {
		if err := c.write(pdu); err != nil {
			c.Close()
			if f.send != Abort { // one that cannot be sent has ended the association too
				return f, fmt.Errorf("send %s: %w", f.send, err)
			}
		}
	}
	if f.close {
		c.Close()
	}
	return f, nil
}

func (c *Conn) write(pdu []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.timers.PDU)); err != nil {
		return err
	}
	_, err := c.nc.Write(pdu)
	return err
}

// Close closes the connection without a word. After Receive, Release or Abort has ended the association it does nothing.
func (c *Conn) Close() error {
	c.state, c.artim = stIdle, time.Time{}
	return c.nc.Close()
}

// read waits for the next event from outside. In body is what the PDU holds, which is checked by its kind's decoder. The error
// explains evInvalid, evClosed and evExpired.
func (c *Conn) read(ctx context.Context, wait time.Duration) (e event, err error) {
	deadline := time.Now().Add(wait)
	if !c.artim.IsZero() {
		deadline = c.artim
	}
	defer context.AfterFunc(ctx, func() { c.nc.SetReadDeadline(time.Unix(1, 0)) })()
	if err := c.await(ctx, deadline); err != nil {
		return c.failed(err), err
	}
	if _, err := c.r.Peek(1); err != nil {
		return c.failed(err), err
	}
	if c.artim.IsZero() {
		if err := c.await(ctx, time.Now().Add(c.timers.PDU)); err != nil {
			return c.failed(err), err
		}
	}
	var header [headerBytes]byte
	if _, err := io.ReadFull(c.r, header[:]); err != nil {
		return c.failed(err), err
	}
	kind, length := Kind(header[0]), binary.BigEndian.Uint32(header[2:])
	if err := checkLength(kind, length, c.maxData); err != nil {
		return evInvalid, err
	}
	if err := c.fill(int(length)); err != nil {
		return c.failed(err), err
	}
	return eventOf(kind), nil
}

// await sets the deadline of reading, unless ctx has ended: its end may have set another a moment ago.
func (c *Conn) await(ctx context.Context, deadline time.Time) error {
	if err := c.nc.SetReadDeadline(deadline); err != nil {
		return err
	}
	return ctx.Err()
}

// fill reads n bytes into body, whose memory grows with what arrives, not with what is announced.
func (c *Conn) fill(n int) error {
	c.body = c.body[:0]
	for len(c.body) < n {
		have := len(c.body)
		want := min(n, max(16<<10, 4*have, cap(c.body)))
		if want > cap(c.body) {
			c.body = append(make([]byte, 0, want), c.body...)
		}
		c.body = c.body[:want]
		if _, err := io.ReadFull(c.r, c.body[have:]); err != nil {
			return err
		}
	}
	return nil
}

// failed is the event of a read that did not succeed.
func (c *Conn) failed(err error) event {
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case timeout && !c.artim.IsZero():
		return evExpired
	case timeout: // no event of the table: what follows from it is the user's to say
		return evAbortRequest
	}
	return evClosed
}

// next reads an event, lets the table act on it, and turns whatever ends the association into an error.
func (c *Conn) next(ctx context.Context, wait time.Duration) (event, error) {
	before := c.state
	e, why := c.read(ctx, wait)
	switch e {
	case evPData:
		if c.pdvs, why = decodePDVs(c.pdvs[:0], c.body); why != nil {
			e = evInvalid
		}
	case evAssociateRQ, evAssociateAC:
		kind := AssociateRQ
		if e == evAssociateAC {
			kind = AssociateAC
		}
		if c.peer, why = decodeAssociate(kind, c.body); why != nil {
			e = evInvalid
		}
	}
	f, err := c.fire(e, abortPDU(e))
	switch {
	case ctx.Err() != nil && (e == evAbortRequest || e == evExpired):
		err = context.Cause(ctx)
	case err != nil:
	case e == evAbort:
		err = &AbortError{c.body[2], c.body[3]}
	case e == evAbortRequest:
		err = ErrIdle
	case e == evExpired:
		err = ErrIdle
	case e == evClosed:
		err = ErrLost
		if why != nil && !errors.Is(why, io.EOF) && !errors.Is(why, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w (%w)", ErrLost, why)
		}
	case e == evInvalid:
		err = why
	case f.send == Abort:
		err = breach("unexpected %s (%s in %s)", kindOf(e), e, before)
	}
	return e, err
}

// abortPDU is the A-ABORT that fits an event, if one is to be sent.
func abortPDU(e event) []byte {
	switch e {
	case evAbortRequest:
		return short(Abort, 0, abortByUser, abortNoReason)
	case evInvalid:
		return short(Abort, 0, abortByProvider, abortInvalidValue)
	}
	return short(Abort, 0, abortByProvider, abortUnexpectedPDU)
}

// finish waits in Sta13 for the peer to close the connection, as long as ARTIM allows, and closes it. What still comes is
// thrown away.
func (c *Conn) finish(ctx context.Context) {
	if ctx.Err() != nil && time.Until(c.artim) > afterCancel {
		c.artim = time.Now().Add(afterCancel)
	}
	ctx = context.WithoutCancel(ctx)
	for c.state == stAwaitClose {
		e, _ := c.read(ctx, 0)
		if e == evInvalid {
			// Where the next PDU begins nobody knows.
			c.nc.SetReadDeadline(c.artim)
			io.Copy(io.Discard, c.r)
			e = evClosed
		}
		if _, err := c.fire(e, abortPDU(e)); err != nil {
			break
		}
	}
	c.Close()
}

// Receive returns the fragments of the next P-DATA-TF, which must begin within wait. It returns io.EOF once the peer has
// released the association. With every error the association is over and the connection closed.
func (c *Conn) Receive(ctx context.Context, wait time.Duration) ([]PDV, error) {
	e, err := c.next(ctx, wait)
	if err == nil && e == evReleaseRQ {
		if _, err = c.fire(evReleaseResponse, short(ReleaseRP, 0, 0, 0)); err == nil {
			err = io.EOF
		}
	}
	if err != nil {
		c.finish(ctx)
		return nil, err
	}
	return c.pdvs, nil
}

// Send sends a fragment in a PDU of its own. It is at most MaxFragment long.
func (c *Conn) Send(ctx context.Context, p PDV) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.out = appendHeader(c.out[:0], PDataTF, len(p.Data)+pdvHeaderBytes)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(p.Data)+2))
	c.out = append(c.out, p.ContextID, bit(p.Command)*controlCommand|bit(p.Last)*controlLast)
	c.out = append(c.out, p.Data...)
	_, err := c.fire(evSendData, c.out)
	return err
}

// Release ends the association in order: it returns nil when the peer has agreed.
func (c *Conn) Release(ctx context.Context) error {
	_, err := c.fire(evRelease, short(ReleaseRQ, 0, 0, 0))
	for err == nil && c.state != stIdle && c.state != stAwaitClose {
		switch c.state {
		case stCollisionRequestor, stCollisionToReply:
			_, err = c.fire(evReleaseResponse, short(ReleaseRP, 0, 0, 0))
		default:
			_, err = c.next(ctx, c.timers.ARTIM)
		}
	}
	c.finish(ctx)
	return err
}

// Abort ends the association at once. It may be called when that is over.
func (c *Conn) Abort(ctx context.Context) {
	if c.state != stIdle {
		c.fire(evAbortRequest, abortPDU(evAbortRequest))
	}
	c.finish(ctx)
}
