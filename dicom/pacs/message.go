package pacs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs/upper"
)

const (
	maxCommandBytes = 64 << 10
	// maxIdentifierBytes is what a data set may have that is held in memory: a query's answer, the list of a commitment
	// request.
	maxIdentifierBytes = 4 << 20
)

// link carries DIMSE messages over an association. One goroutine uses it.
type link struct {
	conn     *upper.Conn
	contexts map[byte]upper.Context // those accepted, each with its one transfer syntax
	stall    time.Duration          // how long the next fragment of a message may keep us waiting
	pdvs     []upper.PDV            // received and not yet taken
	lastID   uint16                 // MessageID of our last request
}

// message is a received command set with the data set that follows it.
type message struct {
	*command
	context upper.Context
	data    *dataSet // nil without one; to be read to its end before the next message is received
}

// receive waits for a message. It returns io.EOF once the peer has released the association; with any error that is over.
func (l *link) receive(ctx context.Context, wait time.Duration) (*message, error) {
	var id byte
	var set []byte
	for last := false; !last; {
		p, err := l.fragment(ctx, wait)
		if err != nil {
			return nil, err
		}
		switch {
		case !p.Command:
			return nil, l.breach(ctx, "a data set without a command")
		case len(set) == 0:
			id = p.ContextID
		case p.ContextID != id:
			return nil, l.breach(ctx, "a command set in two presentation contexts")
		}
		if set = append(set, p.Data...); len(set) > maxCommandBytes {
			return nil, l.breach(ctx, fmt.Sprintf("a command set of more than %d bytes", maxCommandBytes))
		}
		last, wait = p.Last, l.stall
	}
	c, ok := l.contexts[id]
	if !ok {
		return nil, l.breach(ctx, fmt.Sprintf("a message in presentation context %d, which was not accepted", id))
	}
	cmd, err := decodeCommand(set)
	if err != nil {
		return nil, l.breach(ctx, err.Error())
	}
	m := &message{command: cmd, context: c}
	if cmd.DataSet {
		m.data = &dataSet{ctx: ctx, link: l, id: id}
	}
	return m, nil
}

// fragment takes the next PDV.
func (l *link) fragment(ctx context.Context, wait time.Duration) (upper.PDV, error) {
	if len(l.pdvs) == 0 {
		var err error
		if l.pdvs, err = l.conn.Receive(ctx, wait); err != nil {
			return upper.PDV{}, err
		}
	}
	p := l.pdvs[0]
	l.pdvs = l.pdvs[1:]
	return p, nil
}

// breach ends the association for what PS3.7 does not allow.
func (l *link) breach(ctx context.Context, detail string) error {
	l.conn.Abort(ctx)
	return &upper.ProtocolError{Detail: detail}
}

// dataSet is the data set of a message, as it arrives. The context is that of the message: a Reader's methods have no place
// for one.
type dataSet struct {
	ctx  context.Context
	link *link
	id   byte
	rest []byte
	size int64 // of what has come
	done bool  // the last fragment has come
	err  error // why no more can come: the association is over

	limit int64 // of size, if over is set
	over  error // what reading past limit gives
}

// more makes rest hold something.
func (d *dataSet) more() error {
	for len(d.rest) == 0 {
		switch {
		case d.err != nil:
			return d.err
		case d.over != nil && d.size > d.limit:
			return d.over
		case d.done:
			return io.EOF
		}
		p, err := d.link.fragment(d.ctx, d.link.stall)
		switch {
		case errors.Is(err, io.EOF):
			d.err = fmt.Errorf("the peer released the association inside a data set: %w", io.ErrUnexpectedEOF)
		case err != nil:
			d.err = err
		case p.Command:
			d.err = d.link.breach(d.ctx, "a command inside a data set")
		case p.ContextID != d.id:
			d.err = d.link.breach(d.ctx, "a data set in another presentation context than its command")
		default:
			d.rest, d.done = p.Data, p.Last
			if d.size += int64(len(p.Data)); d.over != nil && d.size > d.limit {
				d.rest = nil
			}
		}
	}
	return nil
}

func (d *dataSet) Read(b []byte) (int, error) {
	if err := d.more(); err != nil {
		return 0, err
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// WriteTo hands each fragment to w as it came, without a copy.
func (d *dataSet) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if err := d.more(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		k, err := w.Write(d.rest)
		n += int64(k)
		d.rest = d.rest[k:]
		if err != nil {
			return n, err
		}
	}
}

// discard reads what is left of the data set, so that the next message can be received. Where that is more than limit bytes the
// association is ended.
func (d *dataSet) discard(limit int64) error {
	d.limit, d.over = d.size+limit, errEndless
	_, err := d.WriteTo(io.Discard)
	if errors.Is(err, errEndless) {
		d.err = d.link.breach(d.ctx, errEndless.Error())
		return d.err
	}
	return err
}

var errEndless = errors.New("a data set that does not end")

// identifier reads a whole data set of a message into memory.
func (m *message) identifier() (dicom.Header, error) {
	head, err := dicom.Meta{SOPClassUID: m.context.AbstractSyntax, SOPInstanceUID: "1", TransferSyntaxUID: m.context.TransferSyntaxes[0]}.Encode()
	if err != nil {
		return nil, err
	}
	m.data.limit, m.data.over = maxIdentifierBytes, &StatusError{Status: StatusOutOfResources, Comment: "the data set is too long"}
	file := bytes.NewBuffer(head)
	if _, err := m.data.WriteTo(file); err != nil {
		return nil, err
	}
	f, err := dicom.Parse(file.Bytes(), dicom.DefaultLimits())
	if err != nil {
		return nil, &StatusError{Status: StatusNotUnderstood, Comment: "the data set cannot be read", Err: err}
	}
	return f.Header, nil
}

// send sends a message. data is read to its end, where there is one.
func (l *link) send(ctx context.Context, id byte, c *command, data io.Reader) error {
	c.DataSet = data != nil
	size := l.conn.MaxFragment()
	size -= size % 2 // PS3.8 E.2
	for set := c.encode(); len(set) > 0; {
		p := upper.PDV{ContextID: id, Command: true, Last: len(set) <= size, Data: set[:min(len(set), size)]}
		if err := l.conn.Send(ctx, p); err != nil {
			return err
		}
		set = set[len(p.Data):]
	}
	if data == nil {
		return nil
	}
	// One byte is read ahead: it tells whether a fragment is the last.
	buf, have := make([]byte, size+1), 0
	for {
		n, err := io.ReadFull(data, buf[have:])
		have += n
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		p := upper.PDV{ContextID: id, Last: last, Data: buf[:min(have, size)]}
		if err := l.conn.Send(ctx, p); err != nil || last {
			return err
		}
		buf[0], have = buf[size], 1
	}
}

// nextID is the MessageID of our next request.
func (l *link) nextID() uint16 {
	l.lastID++
	return l.lastID
}
