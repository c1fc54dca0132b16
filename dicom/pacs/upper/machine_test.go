package upper

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// table910 is PS3.8 table 9-10, its states side by side. test/peers holds it to another implementation's.
const table910 = `
       Sta1  Sta2  Sta3  Sta4  Sta5  Sta6  Sta7  Sta8  Sta9  Sta10 Sta11 Sta12 Sta13
Evt1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
`

// tables96to99 are what the actions do, by PS3.8 tables 9-6 to 9-9: the PDU that goes out, whether ARTIM runs afterwards
// ("same": as before), whether the connection is closed, and the next state.
const tables96to99 = `
AE-1  -    same closed:no  Sta4
AE-2  RQ   same closed:no  Sta5
AE-3  -    same closed:no  Sta6
AE-4  -    same closed:yes Sta1
AE-5  -    on   closed:no  Sta2
AE-6  -    off  closed:no  Sta3
AE-7  AC   same closed:no  Sta6
AE-8  RJ   on   closed:no  Sta13
DT-1  DATA same closed:no  Sta6
DT-2  -    same closed:no  Sta6
AR-1  RRQ  same closed:no  Sta7
AR-2  -    same closed:no  Sta8
AR-3  -    same closed:yes Sta1
AR-4  RRP  on   closed:no  Sta13
AR-5  -    off  closed:yes Sta1
AR-6  -    same closed:no  Sta7
AR-7  DATA same closed:no  Sta8
AR-8  -    same closed:no  Sta9/Sta10
AR-9  RRP  same closed:no  Sta11
AR-10 -    same closed:no  Sta12
AA-1  ABRT on   closed:no  Sta13
AA-2  -    off  closed:yes Sta1
AA-3  -    same closed:yes Sta1
AA-4  -    same closed:yes Sta1
AA-5  -    off  closed:yes Sta1
AA-6  -    same closed:no  Sta13
AA-7  ABRT same closed:no  Sta13
AA-8  ABRT on   closed:no  Sta13
`

// cell is one of the 247 of the table.
type cell struct {
	event  event
	state  State
	action string // "." if the event cannot be
	does   []string
}

func cells(t *testing.T) []cell {
	t.Helper()
	actions := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(tables96to99)) {
		f := strings.Fields(line)
		actions[f[0]] = f[1:]
	}
	var all []cell
	for i, line := range strings.Split(strings.TrimSpace(table910), "\n")[1:] {
		f := strings.Fields(line)
		if f[0] != event(i+1).String() || len(f) != 14 {
			t.Fatalf("row %q", line)
		}
		for s, a := range f[1:] {
			if a != "." && actions[a] == nil {
				t.Fatalf("no action %s", a)
			}
			all = append(all, cell{event(i + 1), State(s + 1), a, actions[a]})
		}
	}
	return all
}

var sample = Associate{CalledAE: "MVMAE", CallingAE: "PEER", MaxPDU: 16384, ImplementationClass: "1.2.3", Contexts: []Context{
	{ID: 1, AbstractSyntax: "1.2.840.10008.1.1", TransferSyntaxes: []string{"1.2.840.10008.1.2"}},
}}

// fromPeer are the bytes that make the events from outside. ARTIM's and the closing of the connection have none.
func fromPeer(e event) []byte {
	switch e {
	case evAssociateAC:
		return sample.encode(AssociateAC)
	case evAssociateRJ:
		return short(AssociateRJ, 1, 1, 1)
	case evAssociateRQ:
		return sample.encode(AssociateRQ)
	case evPData:
		return append(appendHeader(nil, PDataTF, 8), 0, 0, 0, 4, 1, 3, 'x', 'y')
	case evReleaseRQ:
		return short(ReleaseRQ, 0, 0, 0)
	case evReleaseRP:
		return short(ReleaseRP, 0, 0, 0)
	case evAbort:
		return short(Abort, 0, 0, 0)
	case evInvalid:
		return []byte{0x7f, 0, 0, 0, 0, 0}
	}
	return nil
}

// Every cell is tried on a connection that is in that state: what goes out, what becomes of it, and of ARTIM. The clock is
// synctest's.
func TestConn_DoesWhatTheTableSays(t *testing.T) {
	for _, c := range cells(t) {
		for _, requestor := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) { tryCell(t, c, requestor) })
		}
	}
}

func tryCell(t *testing.T, c cell, requestor bool) {
	ours, theirs := net.Pipe()
	conn := newConn(ours, Timers{}, 1<<14, requestor)
	conn.state, conn.peer = c.state, &sample
	before := c.state == stAwaitRequest || c.state == stAwaitClose // where ARTIM runs
	if before {
		conn.artim = time.Now().Add(conn.timers.ARTIM)
	}
	sent := make(chan []byte)
	go func() {
		if c.event == evClosed {
			theirs.Close()
		} else if b := fromPeer(c.event); b != nil {
			theirs.Write(b)
		}
	}()
	go func() {
		b, _ := io.ReadAll(theirs)
		sent <- b
	}()
	err := provoke(conn, c)
	state, artim := conn.state, !conn.artim.IsZero()
	_, gone := ours.Write(nil)
	ours.Close()
	out := <-sent
	if c.action == "." {
		if err == nil || state != c.state || len(out) > 0 {
			t.Errorf("%s in %s, an empty cell: state %s, %d bytes sent, error %v", c.event, c.state, state, len(out), err)
		}
		return
	}
	kinds := map[string]Kind{"RQ": AssociateRQ, "AC": AssociateAC, "RJ": AssociateRJ, "DATA": PDataTF, "RRQ": ReleaseRQ, "RRP": ReleaseRP, "ABRT": Abort}
	var kind Kind
	if len(out) > 0 {
		kind = Kind(out[0])
	}
	if kind != kinds[c.does[0]] {
		t.Errorf("%s in %s sent %s, want %s", c.event, c.state, kind, c.does[0])
	}
	if (c.does[2] == "closed:yes") != (errors.Is(gone, io.ErrClosedPipe) && c.event != evClosed || c.event == evClosed && state == stIdle) {
		t.Errorf("%s in %s: connection %v, want %s", c.event, c.state, gone, c.does[2])
	}
	if want := c.does[1] == "on" || c.does[1] == "same" && before; artim != want {
		t.Errorf("%s in %s: ARTIM runs: %v, want %v", c.event, c.state, artim, want)
	}
	want, acceptors, both := strings.Cut(c.does[3], "/")
	if both && !requestor {
		want = acceptors
	}
	if state.String() != want {
		t.Errorf("%s in %s leads to %s, want %s", c.event, c.state, state, want)
	}
}

// provoke makes an event happen: those from outside by what is read, the user's as the methods of Conn do it.
func provoke(conn *Conn, c cell) error {
	pdus := map[event][]byte{
		evConnected: sample.encode(AssociateRQ), evAccept: sample.encode(AssociateAC), evReject: short(AssociateRJ, 1, 1, 1),
		evSendData: append(appendHeader(nil, PDataTF, 8), 0, 0, 0, 4, 1, 3, 'x', 'y'), evRelease: short(ReleaseRQ, 0, 0, 0),
		evReleaseResponse: short(ReleaseRP, 0, 0, 0), evAbortRequest: abortPDU(evAbortRequest),
	}
	outside := fromPeer(c.event) != nil || c.event == evClosed || c.event == evExpired && !conn.artim.IsZero()
	if !outside || c.state == stIdle || c.state == stAwaitTransport { // nobody reads in these states
		_, err := conn.fire(c.event, pdus[c.event])
		return err
	}
	_, err := conn.next(context.Background(), time.Minute)
	if c.action != "." {
		return nil // the errors are tested by what the methods return
	}
	return err
}
