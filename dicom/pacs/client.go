package pacs

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs/upper"
	"github.com/mvmae/mvmae/internal/hint"
)

// ClientOptions are those of a Client. The zero value of a field means its default.
type ClientOptions struct {
	AETitle string      // ours. Default [DefaultAE]
	TLS     *tls.Config // what is spoken, where it is set; ServerName defaults to the peer's host
	Limits  Limits
}

// Proposal is what an association is for.
type Proposal struct {
	SOPClass         string
	TransferSyntaxes []string // default: the two uncompressed ones
	SCP              bool     // we are the SCP of the class, not its SCU
}

// Client is an association with a peer. One goroutine uses it.
type Client struct {
	link   link
	node   Node
	answer time.Duration // how long a response may take
}

// dialTimeout is how long a TCP connection and its TLS handshake may take each.
const dialTimeout = 10 * time.Second

// Dial asks a peer for an association. A peer that says no gives an [*upper.Rejection]. The errors carry hints.
func Dial(ctx context.Context, to Node, opt ClientOptions, proposals ...Proposal) (*Client, error) {
	if opt.AETitle == "" {
		opt.AETitle = DefaultAE
	}
	opt.Limits = opt.Limits.withDefaults()
	fail := func(err error) (*Client, error) {
		return nil, withHint(fmt.Errorf("call %s: %w", to, err), to, opt.AETitle)
	}
	if to.Address() == "" {
		return fail(errors.New("its address is not known"))
	}
	nc, err := dialTransport(ctx, to, opt.TLS)
	if err != nil {
		return fail(err)
	}
	ask := &upper.Associate{
		CalledAE: to.AE, CallingAE: opt.AETitle,
		ImplementationClass: dicom.ImplementationClassUID, ImplementationVersion: dicom.ImplementationVersionName,
	}
	for i, p := range proposals {
		syntaxes := p.TransferSyntaxes
		if len(syntaxes) == 0 {
			syntaxes = uncompressed
		}
		ask.Contexts = append(ask.Contexts, upper.Context{ID: byte(2*i + 1), AbstractSyntax: p.SOPClass, TransferSyntaxes: syntaxes})
		if p.SCP {
			ask.Roles = append(ask.Roles, upper.Role{SOPClass: p.SOPClass, SCP: true})
		}
	}
	conn, err := upper.Request(ctx, nc, opt.Limits.Timers, uint32(opt.Limits.PDUBytes), ask)
	if err != nil {
		return fail(err)
	}
	c := &Client{link: link{conn: conn, contexts: map[byte]upper.Context{}, stall: opt.Limits.PDU}, node: to, answer: opt.Limits.Idle}
	for _, answer := range conn.Peer().Contexts {
		i := slices.IndexFunc(ask.Contexts, func(p upper.Context) bool { return p.ID == answer.ID })
		if answer.Result != upper.Accepted || i < 0 || len(answer.TransferSyntaxes) != 1 {
			continue
		}
		c.link.contexts[answer.ID] = upper.Context{ID: answer.ID, AbstractSyntax: ask.Contexts[i].AbstractSyntax, TransferSyntaxes: answer.TransferSyntaxes}
	}
	return c, nil
}

func dialTransport(ctx context.Context, to Node, secure *tls.Config) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	nc, err := dialer.DialContext(ctx, "tcp", to.Address())
	if err != nil || secure == nil {
		return nc, err
	}
	if secure.ServerName == "" && !secure.InsecureSkipVerify {
		secure = secure.Clone()
		secure.ServerName = to.Host
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	tc := tls.Client(nc, secure)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tc, nil
}

// withHint adds the cure of what usually keeps two applications apart.
func withHint(err error, to Node, ours string) error {
	var no *upper.Rejection
	var op *net.OpError
	switch {
	case errors.As(err, &no) && *no == upper.RejectCallingAE:
		return hint.Wrap(err, "list AE title %s, with this machine's address, among the applications that %s knows", ours, to.AE)
	case errors.As(err, &no) && *no == upper.RejectCalledAE:
		return hint.Wrap(err, "%s is not the AE title that listens there: look it up in its configuration", to.AE)
	case errors.As(err, &no) && no.Result == upper.Transient:
		return hint.Wrap(err, "it is busy: try again, or raise its limit of associations")
	case errors.As(err, &op) && op.Op == "dial":
		return hint.Wrap(err, "nothing answers at %s: check host, port and firewall, and that the application runs", to.Address())
	case errors.Is(err, upper.ErrIdle):
		return hint.Wrap(err, "something listens there but does not speak DICOM, or wants TLS")
	case errors.Is(err, upper.ErrLost):
		return hint.Wrap(err, "it hangs up on unknown callers: list AE title %s there; or it wants TLS", ours)
	}
	return err
}

// context finds an accepted presentation context, with that syntax where one is given.
func (c *Client) context(sopClass, syntax string) (upper.Context, error) {
	for _, k := range c.link.contexts {
		if k.AbstractSyntax == sopClass && (syntax == "" || k.TransferSyntaxes[0] == syntax) {
			return k, nil
		}
	}
	word := ""
	if syntax != "" {
		word = " in transfer syntax " + syntax
	}
	return upper.Context{}, fmt.Errorf("%s does not accept SOP class %s%s", c.node.AE, sopClass, word)
}

// Accepted returns the transfer syntaxes in which the peer takes a SOP class.
func (c *Client) Accepted(sopClass string) []string {
	var syntaxes []string
	for id := 1; id < 256; id += 2 {
		if k, ok := c.link.contexts[byte(id)]; ok && k.AbstractSyntax == sopClass {
			syntaxes = append(syntaxes, k.TransferSyntaxes...)
		}
	}
	return syntaxes
}

// Echo asks the peer whether it is there (C-ECHO). The association needs a [Proposal] for [Verification].
func (c *Client) Echo(ctx context.Context) error {
	return c.ask(ctx, &command{Field: cEchoRQ, SOPClass: Verification}, nil)
}

// Store sends a Part 10 file (C-STORE), in the syntax it has. The association needs a [Proposal] of its class and syntax.
func (c *Client) Store(ctx context.Context, file io.Reader) error {
	r := bufio.NewReaderSize(file, maxMetaBytes)
	meta, err := readMeta(r)
	if err != nil {
		return err
	}
	context, err := c.context(meta.SOPClassUID, meta.TransferSyntaxUID)
	if err != nil {
		return err
	}
	_, err = c.exchange(ctx, context.ID, &command{Field: cStoreRQ, SOPClass: meta.SOPClassUID, SOPInstance: meta.SOPInstanceUID}, r)
	return err
}

// maxMetaBytes is what preamble and file meta information may have.
const maxMetaBytes = 64 << 10

// readMeta takes the file meta information off a Part 10 file.
func readMeta(r *bufio.Reader) (dicom.Meta, error) {
	head, err := r.Peek(maxMetaBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return dicom.Meta{}, err
	}
	meta, size, err := dicom.ReadMeta(head)
	if err != nil {
		return meta, err
	}
	_, err = r.Discard(size)
	return meta, err
}

// ask sends a request and wants success.
func (c *Client) ask(ctx context.Context, cmd *command, elems []dicom.Element) error {
	context, err := c.context(cmd.SOPClass, "")
	if err != nil {
		return err
	}
	set, err := encodeSet(context.TransferSyntaxes[0], elems)
	if err != nil {
		return err
	}
	_, err = c.exchange(ctx, context.ID, cmd, set)
	return err
}

// exchange sends a request and returns the response, or an error where its status is no success or warning.
func (c *Client) exchange(ctx context.Context, id byte, cmd *command, set io.Reader) (*message, error) {
	if err := c.request(ctx, id, cmd, set); err != nil {
		return nil, err
	}
	m, err := c.response(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if m.data != nil {
		if err := m.data.discard(maxIdentifierBytes); err != nil {
			return nil, err
		}
	}
	return m, m.failure()
}

func (c *Client) request(ctx context.Context, id byte, cmd *command, set io.Reader) error {
	cmd.MessageID = c.link.nextID()
	return c.link.send(ctx, id, cmd, set)
}

// response waits for a response to cmd.
func (c *Client) response(ctx context.Context, cmd *command) (*message, error) {
	m, err := c.link.receive(ctx, c.answer)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the peer released the association in place of a response")
	case err != nil:
		return nil, err
	case m.Field != cmd.Field|response || m.RespondedTo != cmd.MessageID:
		return nil, c.link.breach(ctx, fmt.Sprintf("a message %04X where a response %04X should be", m.Field, cmd.Field|response))
	}
	return m, nil
}

// failure is nil if the status of a response is success or a warning (PS3.7 C.1).
func (c *command) failure() error {
	if s := c.Status; s == StatusSuccess || s == 0x0001 || s == 0x0107 || s == 0x0116 || s&0xF000 == 0xB000 {
		return nil
	}
	return &StatusError{Status: c.Status, Comment: c.Comment}
}

// Close releases the association.
func (c *Client) Close(ctx context.Context) error { return c.link.conn.Release(ctx) }

// Abort ends the association in the middle of whatever it is at.
func (c *Client) Abort(ctx context.Context) { c.link.conn.Abort(ctx) }
