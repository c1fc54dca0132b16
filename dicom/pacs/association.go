package pacs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs/upper"
)

// association is one that a peer has asked for.
type association struct {
	*Server
	id   Association
	log  *slog.Logger
	link link
	all  *sync.WaitGroup // of what Serve waits for
	stop context.Context // Serve's: what outlives the association ends with it

	refused Refusal // why it is refused, and in words
	why     string
}

// decide answers an A-ASSOCIATE-RQ.
func (a *association) decide(rq *upper.Associate) (*upper.Associate, *upper.Rejection) {
	a.id.CallingAE, a.id.CalledAE = rq.CallingAE, rq.CalledAE
	a.log = a.log.With("calling_ae", rq.CallingAE, "association", a.id.ID)
	rejection := upper.RejectCongestion
	if a.refused == "" {
		a.refused, a.why, rejection = a.admit(rq)
	}
	if a.refused != "" {
		return nil, &rejection
	}
	ac := &upper.Associate{
		CalledAE: rq.CalledAE, CallingAE: rq.CallingAE,
		ImplementationClass: dicom.ImplementationClassUID, ImplementationVersion: dicom.ImplementationVersionName,
	}
	a.link = link{contexts: map[byte]upper.Context{}, stall: a.opt.Limits.PDU}
	var unknown []string
	for _, c := range rq.Contexts {
		var asked *upper.Role
		if i := slices.IndexFunc(rq.Roles, func(r upper.Role) bool { return r.SOPClass == c.AbstractSyntax }); i >= 0 {
			asked = &rq.Roles[i]
		}
		answer, role := a.negotiate(c, asked)
		ac.Contexts = append(ac.Contexts, answer)
		if role != nil && !slices.Contains(ac.Roles, *role) {
			ac.Roles = append(ac.Roles, *role)
		}
		if answer.Result == upper.Accepted {
			a.link.contexts[c.ID] = upper.Context{ID: c.ID, AbstractSyntax: c.AbstractSyntax, TransferSyntaxes: answer.TransferSyntaxes}
		} else if word := contextRefusal(answer.Result) + c.AbstractSyntax; !slices.Contains(unknown, word) {
			unknown = append(unknown, word)
		}
	}
	if len(unknown) > 0 {
		// DCMTK's storescu and many others propose all that they know: a few names are enough.
		named := strings.Join(unknown[:min(len(unknown), 5)], "; ")
		if more := len(unknown) - 5; more > 0 {
			named += fmt.Sprintf("; and %d more", more)
		}
		a.refuse(a.log, RefusedContext, named)
	}
	return ac, nil
}

func contextRefusal(r upper.Result) string {
	if r == upper.TransferSyntaxesNotSupported {
		return "none of the transfer syntaxes is known for "
	}
	return "not offered here: "
}

// admit says whether the caller may have an association.
func (a *association) admit(rq *upper.Associate) (Refusal, string, upper.Rejection) {
	if rq.MaxPDU != 0 && rq.MaxPDU < upper.MinPDU {
		return RefusedProtocol, fmt.Sprintf("it takes PDUs of %d bytes, the least is %d", rq.MaxPDU, upper.MinPDU), upper.RejectLimit
	}
	if rq.CalledAE != a.opt.AETitle {
		return RefusedCalled, fmt.Sprintf("it calls %q, but we are %q", rq.CalledAE, a.opt.AETitle), upper.RejectCalledAE
	}
	if len(a.opt.Peers) == 0 {
		if ip := net.ParseIP(a.id.Remote); ip != nil && !ip.IsLoopback() {
			return RefusedHost, "no peers are listed, so that callers on this machine alone are let in", upper.RejectCallingAE
		}
		return "", "", upper.Rejection{}
	}
	listed := false
	for _, p := range a.opt.Peers {
		if p.AE != rq.CallingAE {
			continue
		}
		if p.Host == "" || sameHost(a.stop, p.Host, a.id.Remote) {
			return "", "", upper.Rejection{}
		}
		listed = true
	}
	if listed {
		return RefusedHost, fmt.Sprintf("%q is listed, but not with the address %s", rq.CallingAE, a.id.Remote), upper.RejectCallingAE
	}
	return RefusedCaller, fmt.Sprintf("the calling AE title %q is not among the peers listed", rq.CallingAE), upper.RejectCallingAE
}

// sameHost says whether a host's name or address stands for the address of a peer.
func sameHost(ctx context.Context, host, remote string) bool {
	if host == remote {
		return true
	}
	ip := net.ParseIP(remote)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	return err == nil && ip != nil && slices.ContainsFunc(addresses, func(a net.IPAddr) bool { return a.IP.Equal(ip) })
}

// notBegun tells why there is no association.
func (a *association) notBegun(err error) {
	var rejection *upper.Rejection
	var breach *upper.ProtocolError
	switch {
	case errors.As(err, &rejection):
		a.refuse(a.log, a.refused, a.why)
	case errors.As(err, &breach):
		a.refuse(a.log, RefusedProtocol, breach.Detail)
	case errors.Is(err, upper.ErrIdle):
		a.refuse(a.log, RefusedSlow, "it connected, but asked for no association in time")
	default: // a port scan, a health check, our own end
		a.log.Debug("no association", "reason", err.Error())
	}
}

// messages answers what the peer sends until the association is over.
func (a *association) messages(ctx, work context.Context) {
	began := time.Now()
	a.log.Info("association begins", "called_ae", a.id.CalledAE, "implementation", a.link.conn.Peer().ImplementationVersion)
	var err error
	for err == nil {
		var m *message
		if m, err = a.link.receive(ctx, a.opt.Limits.Idle); err != nil {
			break
		}
		err = a.answer(work, m)
	}
	a.ended(ctx, err)
	if errors.Is(err, io.EOF) {
		a.opt.Archive.Released(work, a.id)
	}
	a.log.Info("association ends", "released", errors.Is(err, io.EOF), "duration", time.Since(began).Round(time.Millisecond))
}

// ended counts and tells how the association ended.
func (a *association) ended(ctx context.Context, err error) {
	var breach *upper.ProtocolError
	switch {
	case errors.Is(err, io.EOF):
		a.count(func(c *Counts) { c.Released++ })
	case errors.As(err, &breach):
		a.refuse(a.log, RefusedProtocol, breach.Detail)
	case errors.Is(err, upper.ErrIdle), errors.Is(err, context.DeadlineExceeded):
		a.refuse(a.log, RefusedSlow, "the association was idle too long, or an object too slow")
	case ctx.Err() != nil:
		a.log.Info("association aborted, the server stops")
	default:
		a.log.Warn("association lost", "reason", err.Error())
	}
}

// answer handles one message, in the time that one may take. Its error means that the association is over.
func (a *association) answer(work context.Context, m *message) error {
	ctx, cancel := context.WithTimeout(work, a.opt.Limits.Object)
	defer cancel()
	if m.data != nil {
		m.data.ctx = ctx
	}
	var reply *command
	switch m.Field {
	case cEchoRQ:
		a.count(func(c *Counts) { c.Echoes++ })
		reply = m.answer(StatusSuccess, "")
	case cStoreRQ:
		reply = a.store(ctx, m)
	case nActionRQ:
		reply = a.commit(ctx, m)
	case nEventReportRQ:
		reply = a.committed(ctx, m)
	case cCancelRQ: // of what was never begun
	default:
		if m.isResponse() {
			return a.link.breach(ctx, fmt.Sprintf("a response (%04X) to nothing", m.Field))
		}
		a.refuse(a.log, RefusedOperation, fmt.Sprintf("the operation %04X is not offered", m.Field))
		reply = m.answer(StatusUnrecognised, "")
	}
	if m.data != nil {
		// What nobody wanted to read: the next message comes after it.
		if err := m.data.discard(a.opt.Limits.ObjectBytes); err != nil {
			return err
		}
	}
	if reply == nil {
		return nil
	}
	return a.link.send(ctx, m.context.ID, reply, nil)
}

// store keeps an object.
func (a *association) store(ctx context.Context, m *message) *command {
	refuse := func(r Refusal, s Status, why string) *command {
		a.refuse(a.log, r, why)
		return m.answer(s, why)
	}
	if m.data == nil {
		return refuse(RefusedObject, StatusMistyped, "C-STORE without a data set")
	}
	if m.SOPClass != m.context.AbstractSyntax {
		return refuse(RefusedIdentity, StatusClassUnsupported, "not the SOP class of the presentation context")
	}
	if err := checkUID(m.SOPInstance); err != nil {
		return refuse(RefusedIdentity, StatusInvalidInstance, "the SOP instance UID "+err.Error())
	}
	o := Object{a.id, m.SOPClass, m.SOPInstance, m.context.TransferSyntaxes[0], m.Priority == priorityHigh}
	large := fmt.Sprintf("an object of more than %d bytes", a.opt.Limits.ObjectBytes)
	m.data.limit, m.data.over = a.opt.Limits.ObjectBytes, &StatusError{Status: StatusOutOfResources, Comment: large}
	err := a.keep(ctx, o, m.data)
	var status *StatusError
	switch {
	case err == nil:
		a.count(func(c *Counts) { c.Objects++; c.Bytes += m.data.size })
		return m.answer(StatusSuccess, "")
	case m.data.err != nil: // the association is over
		a.refuse(a.log, RefusedLost, "the association ended inside an object, of which nothing is kept")
		return nil
	case m.data.size > a.opt.Limits.ObjectBytes:
		return refuse(RefusedLarge, StatusOutOfResources, large)
	case errors.As(err, &status):
		a.refuse(a.log, RefusedObject, err.Error())
		return m.answer(status.Status, status.Comment)
	}
	a.refuse(a.log, RefusedObject, err.Error())
	return m.answer(StatusOutOfResources, "the object could not be stored")
}

// keep hands an object to the archive as a Part 10 stream.
func (a *association) keep(ctx context.Context, o Object, data *dataSet) error {
	head, err := dicom.Meta{SOPClassUID: o.SOPClassUID, SOPInstanceUID: o.SOPInstanceUID, TransferSyntaxUID: o.TransferSyntaxUID}.Encode()
	if err != nil {
		return err
	}
	if err := a.opt.Archive.Keep(ctx, o, &part10{head, data}); err != nil {
		return err
	}
	if !data.done || len(data.rest) > 0 {
		return errors.New("the archive took less than the whole object")
	}
	return nil
}

// part10 is an object on its way to the archive.
type part10 struct {
	head []byte
	data *dataSet
}

func (p *part10) Read(b []byte) (int, error) {
	if len(p.head) == 0 {
		return p.data.Read(b)
	}
	n := copy(b, p.head)
	p.head = p.head[n:]
	return n, nil
}

func (p *part10) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(p.head)
	p.head = p.head[n:]
	if err != nil {
		return int64(n), err
	}
	k, err := p.data.WriteTo(w)
	return int64(n) + k, err
}
