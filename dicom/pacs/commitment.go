package pacs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// Commitment is the outcome of a storage commitment (PS3.4 J.3.3).
type Commitment struct {
	TransactionUID string
	Committed      []Reference
	Failed         []Failure
}

// Reference names an object.
type Reference struct{ SOPClassUID, SOPInstanceUID string }

// Failure is an object that is not committed to. Reason is StatusNoSuchInstance, StatusProcessing or another of PS3.3 C.14.1.1.
type Failure struct {
	Reference
	Reason Status
}

const (
	actionCommit  = 1 // PS3.4 J.3.2.1
	eventAll      = 1 // PS3.4 J.3.3.1: all are committed to
	eventFailures = 2
)

// commit takes a request for commitment (N-ACTION). The answer is brought later, in an association of our own.
func (a *association) commit(ctx context.Context, m *message) *command {
	refuse := func(s Status, why string) *command {
		a.refuse(a.log, RefusedCommitment, why)
		return m.answer(s, why)
	}
	switch {
	case m.SOPClass != StorageCommitment || m.context.AbstractSyntax != StorageCommitment:
		return refuse(StatusNoSuchSOPClass, "N-ACTION is for storage commitment alone")
	case m.SOPInstance != commitmentInstance:
		return refuse(StatusNoSuchInstance, "not the instance of storage commitment")
	case m.ActionType != actionCommit:
		return refuse(StatusNoSuchAction, fmt.Sprintf("action %d of storage commitment", m.ActionType))
	case m.data == nil:
		return refuse(StatusMistyped, "a commitment request without a data set")
	}
	set, err := m.identifier()
	if err != nil {
		return refuse(StatusProcessing, "the list of objects cannot be read")
	}
	transaction, wanted := set.String(tag.TransactionUID), references(set.Items(tag.ReferencedSOPSequence))
	if checkUID(transaction) != nil || len(wanted) == 0 {
		return refuse(StatusProcessing, "a commitment request without a transaction or an object")
	}
	to, ok := a.address(a.id.CallingAE)
	if !ok {
		return refuse(StatusProcessing, fmt.Sprintf("no address of %s to report to: list it as AE@HOST:PORT", a.id.CallingAE))
	}
	select {
	case a.reports <- struct{}{}:
	default:
		return refuse(StatusLimit, fmt.Sprintf("%d reports are under way already", cap(a.reports)))
	}
	a.all.Go(func() {
		defer func() { <-a.reports }()
		a.report(a.stop, to, transaction, wanted)
	})
	return m.answer(StatusSuccess, "")
}

// address finds where a peer listens.
func (s *Server) address(ae string) (Node, bool) {
	for _, p := range s.opt.Peers {
		if p.AE == ae && p.Host != "" {
			return p, true
		}
	}
	return Node{}, false
}

func references(items []dicom.Header) []Reference {
	var refs []Reference
	for _, it := range items {
		refs = append(refs, Reference{it.String(tag.ReferencedSOPClassUID), it.String(tag.ReferencedSOPInstanceUID)})
	}
	return refs
}

// report asks the archive and brings the answer, again and again until the peer takes it.
func (s *Server) report(ctx context.Context, to Node, transaction string, wanted []Reference) {
	log := s.opt.Log.With("peer", to.AE)
	c := s.examine(ctx, transaction, wanted)
	for try := 0; ; try++ {
		err := s.deliver(ctx, to, c)
		switch {
		case err == nil:
			s.count(func(n *Counts) { n.Commitments++ })
			log.Info("commitment reported", "committed", len(c.Committed), "failed", len(c.Failed))
			return
		case ctx.Err() != nil:
			log.Warn("commitment not reported, the server stops: the peer has to ask again")
			return
		case try == len(s.opt.Limits.Retry):
			s.refuse(log, RefusedCommitment, fmt.Sprintf("the report could not be brought in %d tries: %v", try+1, err))
			return
		}
		log.Warn("commitment not reported yet", "again_in", s.opt.Limits.Retry[try], "reason", err.Error())
		pause(ctx, s.opt.Limits.Retry[try])
	}
}

// examine asks the archive for each object.
func (s *Server) examine(ctx context.Context, transaction string, wanted []Reference) Commitment {
	c := Commitment{TransactionUID: transaction}
	for _, r := range wanted {
		held, err := s.opt.Archive.Holds(ctx, r.SOPClassUID, r.SOPInstanceUID)
		switch {
		case err != nil:
			s.opt.Log.Error("ask the archive for an object", "error", err)
			c.Failed = append(c.Failed, Failure{r, StatusProcessing})
		case held:
			c.Committed = append(c.Committed, r)
		default:
			c.Failed = append(c.Failed, Failure{r, StatusNoSuchInstance})
		}
	}
	return c
}

// deliver brings a report in an association in which we are the SCP (PS3.4 J.3.3, PS3.7 D.3.3.4).
func (s *Server) deliver(ctx context.Context, to Node, c Commitment) error {
	client, err := Dial(ctx, to, ClientOptions{AETitle: s.opt.AETitle, TLS: s.opt.PeerTLS, Limits: s.opt.Limits}, Proposal{
		SOPClass: StorageCommitment, TransferSyntaxes: uncompressed, SCP: true,
	})
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	elems := []dicom.Element{{Tag: tag.TransactionUID, Value: c.TransactionUID}, {Tag: tag.RetrieveAETitle, Value: s.opt.AETitle}}
	event := uint16(eventAll)
	if len(c.Committed) > 0 {
		var items []dicom.Item
		for _, r := range c.Committed {
			items = append(items, r.item())
		}
		elems = append(elems, dicom.Element{Tag: tag.ReferencedSOPSequence, Value: items})
	}
	if len(c.Failed) > 0 {
		event = eventFailures
		var items []dicom.Item
		for _, f := range c.Failed {
			items = append(items, append(f.item(), dicom.Element{Tag: tag.FailureReason, Value: int(f.Reason)}))
		}
		elems = append(elems, dicom.Element{Tag: tag.FailedSOPSequence, Value: items})
	}
	return client.ask(ctx, &command{
		Field: nEventReportRQ, SOPClass: StorageCommitment, SOPInstance: commitmentInstance, EventType: event,
	}, elems)
}

func (r Reference) item() dicom.Item {
	return dicom.Item{
		{Tag: tag.ReferencedSOPClassUID, Value: r.SOPClassUID},
		{Tag: tag.ReferencedSOPInstanceUID, Value: r.SOPInstanceUID},
	}
}

// committed takes a report on what we have asked for (N-EVENT-REPORT).
func (a *association) committed(ctx context.Context, m *message) *command {
	if a.opt.Committed == nil || m.context.AbstractSyntax != StorageCommitment || m.data == nil {
		a.refuse(a.log, RefusedOperation, "a report on a commitment that was not asked for")
		return m.answer(StatusUnrecognised, "")
	}
	set, err := m.identifier()
	if err != nil {
		a.refuse(a.log, RefusedCommitment, "a report that cannot be read")
		return m.answer(StatusProcessing, "the report cannot be read")
	}
	c := Commitment{TransactionUID: set.String(tag.TransactionUID), Committed: references(set.Items(tag.ReferencedSOPSequence))}
	for _, it := range set.Items(tag.FailedSOPSequence) {
		reason, _ := it.Int(tag.FailureReason)
		c.Failed = append(c.Failed, Failure{references([]dicom.Header{it})[0], Status(reason)})
	}
	a.opt.Committed(ctx, a.id.CallingAE, c)
	return m.answer(StatusSuccess, "")
}

// RequestCommitment asks the peer to answer for objects (N-ACTION). The outcome comes to Options.Committed of the server that
// the peer knows under our AE title. The association needs a [Proposal] for [StorageCommitment].
func (c *Client) RequestCommitment(ctx context.Context, transactionUID string, refs []Reference) error {
	var items []dicom.Item
	for _, r := range refs {
		items = append(items, r.item())
	}
	return c.ask(ctx, &command{
		Field: nActionRQ, SOPClass: StorageCommitment, SOPInstance: commitmentInstance, ActionType: actionCommit,
	}, []dicom.Element{{Tag: tag.TransactionUID, Value: transactionUID}, {Tag: tag.ReferencedSOPSequence, Value: items}})
}

// encodeSet writes a data set for a message.
func encodeSet(syntax string, elems []dicom.Element) (io.Reader, error) {
	if elems == nil {
		return nil, nil
	}
	var b bytes.Buffer
	if err := dicom.WriteDataSet(&b, syntax, elems); err != nil {
		return nil, err
	}
	if b.Len() == 0 {
		return nil, errors.New("an empty data set")
	}
	return &b, nil
}
