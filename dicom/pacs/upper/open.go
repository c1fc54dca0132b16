package upper

import (
	"context"
	"fmt"
	"net"
)

// Rejection is an A-ASSOCIATE-RJ (PS3.8 table 9-21).
type Rejection struct {
	Result Persistence
	Source Source
	Reason byte // its meaning depends on Source
}

// Persistence says whether it may help to ask again.
type Persistence byte

const (
	Permanent Persistence = 1 + iota
	Transient
)

// Source is who rejects.
type Source byte

const (
	ByUser         Source = 1 + iota
	ByACSE                // the provider's association half
	ByPresentation        // the provider's presentation half
)

// The rejections that have a use here.
var (
	RejectCallingAE  = Rejection{Permanent, ByUser, 3}
	RejectCalledAE   = Rejection{Permanent, ByUser, 7}
	RejectNoReason   = Rejection{Permanent, ByUser, 1}
	RejectCongestion = Rejection{Transient, ByPresentation, 1}
	RejectLimit      = Rejection{Transient, ByPresentation, 2}
)

func (r *Rejection) Error() string {
	words := map[Rejection]string{
		{Source: ByUser, Reason: 1}: "no reason given", {Source: ByUser, Reason: 2}: "application context name not supported",
		{Source: ByUser, Reason: 3}: "it does not know our AE title", {Source: ByUser, Reason: 7}: "it has another AE title",
		{Source: ByACSE, Reason: 1}: "no reason given", {Source: ByACSE, Reason: 2}: "protocol version not supported",
		{Source: ByPresentation, Reason: 1}: "temporary congestion", {Source: ByPresentation, Reason: 2}: "local limit exceeded",
	}
	word := words[Rejection{Source: r.Source, Reason: r.Reason}]
	if word == "" {
		word = fmt.Sprintf("source %d, reason %d", r.Source, r.Reason)
	}
	if r.Result == Transient {
		word += ", for now"
	}
	return "the peer rejected the association: " + word
}

// Accept answers a peer that has connected on nc. decide is given what it asks for, and returns what we answer, or why it is
// rejected. A rejection of ours is an error of Accept too. On every error nc is closed.
func Accept(ctx context.Context, nc net.Conn, timers Timers, maxData uint32, decide func(*Associate) (*Associate, *Rejection)) (*Conn, error) {
	c := newConn(nc, timers, maxData, false)
	_, err := c.fire(evIncoming, nil)
	if err == nil {
		_, err = c.next(ctx, 0) // ARTIM is running
	}
	if err != nil {
		c.finish(ctx)
		return nil, err
	}
	answer, rejection := decide(c.peer)
	if rejection != nil {
		c.fire(evReject, short(AssociateRJ, byte(rejection.Result), byte(rejection.Source), rejection.Reason))
		c.finish(ctx)
		return nil, rejection
	}
	answer.MaxPDU = maxData
	if _, err := c.fire(evAccept, answer.encode(AssociateAC)); err != nil {
		return nil, err
	}
	return c, nil
}

// Request asks the peer at the other end of nc for an association. A rejection is a [*Rejection]. On every error nc is
// closed.
func Request(ctx context.Context, nc net.Conn, timers Timers, maxData uint32, ask *Associate) (*Conn, error) {
	c := newConn(nc, timers, maxData, true)
	ask.MaxPDU = maxData
	_, err := c.fire(evRequest, nil)
	if err == nil {
		_, err = c.fire(evConnected, ask.encode(AssociateRQ))
	}
	var e event
	if err == nil {
		e, err = c.next(ctx, c.timers.ARTIM)
	}
	if err == nil && e == evAssociateRJ {
		err = &Rejection{Persistence(c.body[1]), Source(c.body[2]), c.body[3]}
	}
	if err == nil && c.peer.MaxPDU != 0 && c.peer.MaxPDU < MinPDU {
		c.Abort(ctx)
		err = breach("the peer takes PDUs of %d bytes, the least is %d", c.peer.MaxPDU, MinPDU)
	}
	if err != nil {
		c.finish(ctx)
		return nil, err
	}
	return c, nil
}
