package pacs_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/pacs"
)

type outcome struct {
	from string
	pacs.Commitment
}

// modality is a server that takes reports under the AE title SENDER. The first callers are hung up on.
func modality(t *testing.T, hangUps int) (*running, chan outcome) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan outcome, 8)
	return startOn(t, &rude{ln, hangUps}, pacs.Options{AETitle: "SENDER", Committed: func(_ context.Context, from string, c pacs.Commitment) {
		reports <- outcome{from, c}
	}}), reports
}

// rude hangs up on so many callers.
type rude struct {
	net.Listener
	left int
}

func (r *rude) Accept() (net.Conn, error) {
	for {
		nc, err := r.Listener.Accept()
		if err != nil || r.left == 0 {
			return nc, err
		}
		r.left--
		nc.Close()
	}
}

func TestCommitment_IsReportedUntilThePeerTakesIt(t *testing.T) {
	sender, reports := modality(t, 2)
	s := start(t, pacs.Options{Peers: []pacs.Node{sender.node}, Limits: pacs.Limits{Retry: []time.Duration{1, 1, 1}}})
	c := askFor(t, s)
	if err := c.Store(t.Context(), bytes.NewReader(object(t, "1.2.3.1", 64))); err != nil {
		t.Fatal(err)
	}
	refs := []pacs.Reference{{digitalXRay, "1.2.3.1"}, {digitalXRay, "1.2.3.2"}, {digitalXRay, "1.2.3.666"}}
	if err := c.RequestCommitment(t.Context(), "1.2.99", refs); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	want := outcome{"MVMAE", pacs.Commitment{TransactionUID: "1.2.99", Committed: refs[:1], Failed: []pacs.Failure{
		{refs[1], pacs.StatusNoSuchInstance}, {refs[2], pacs.StatusProcessing},
	}}}
	if diff := cmp.Diff(want, <-reports, cmp.AllowUnexported(outcome{})); diff != "" {
		t.Errorf("report (-want +got)\n%s", diff)
	}
	if n := strings.Count(s.log.String(), "commitment not reported yet"); n != 2 {
		t.Errorf("%d tries failed, want 2", n)
	}
}

func askFor(t *testing.T, s *running) *pacs.Client {
	t.Helper()
	c, err := pacs.Dial(t.Context(), s.node, pacs.ClientOptions{AETitle: "SENDER"}, pacs.Proposal{SOPClass: pacs.StorageCommitment},
		pacs.Proposal{SOPClass: digitalXRay, TransferSyntaxes: []string{"1.2.840.10008.1.2.1"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCommitment_GivesUpAndSaysSo(t *testing.T) {
	sender, _ := modality(t, 100)
	s := start(t, pacs.Options{Peers: []pacs.Node{sender.node}, Limits: pacs.Limits{Retry: []time.Duration{1, 1}}})
	c := askFor(t, s)
	if err := c.RequestCommitment(t.Context(), "1.2.99", []pacs.Reference{{digitalXRay, "1.2.3.1"}}); err != nil {
		t.Fatal(err)
	}
	c.Close(t.Context())
	for s.Counts().Refused[pacs.RefusedCommitment] == 0 { // the log has it then, too
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
	if !strings.Contains(s.log.String(), "the report could not be brought in 3 tries") {
		t.Errorf("log\n%s", s.log.String())
	}
}

func TestCommitment_RefusalsSayWhy(t *testing.T) {
	for _, c := range []struct {
		name        string
		peers       []pacs.Node
		transaction string
		refs        []pacs.Reference
		want        string
	}{
		{"no address", []pacs.Node{{AE: "SENDER"}}, "1.2.99", []pacs.Reference{{digitalXRay, "1.2.3.1"}}, "no address of SENDER to report to: list it as AE@HOST:PORT"},
		{"no transaction", nil, "x", []pacs.Reference{{digitalXRay, "1.2.3.1"}}, "a commitment request without a transaction or an object"},
		{"no objects", nil, "1.2.99", nil, "a commitment request without a transaction or an object"},
	} {
		s := start(t, pacs.Options{Peers: c.peers})
		client := askFor(t, s)
		err := client.RequestCommitment(t.Context(), c.transaction, c.refs)
		var status *pacs.StatusError
		if !errors.As(err, &status) || status.Status != pacs.StatusProcessing || status.Comment != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := client.Close(t.Context()); err != nil {
			t.Errorf("%s: the association did not go on: %v", c.name, err)
		}
		s.stop()
		if n := s.Counts().Refused[pacs.RefusedCommitment]; n != 1 {
			t.Errorf("%s: counted %d", c.name, n)
		}
	}
}

// Who did not ask for commitments is not the SCU of their reports.
func TestCommitment_ReportsNobodyAskedForAreRefused(t *testing.T) {
	s := start(t, pacs.Options{})
	c, err := pacs.Dial(t.Context(), s.node, pacs.ClientOptions{}, pacs.Proposal{SOPClass: pacs.StorageCommitment, SCP: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.stop()
	if n := s.Counts().Refused[pacs.RefusedContext]; n != 1 {
		t.Errorf("counted %d", n)
	}
}
