package upper

import "fmt"

// State is a state of an association (PS3.8 table 9-10's columns).
type State byte

const (
	stIdle               State = 1 + iota // Sta1
	stAwaitRequest                        // Sta2: a peer has connected
	stAwaitLocalResponse                  // Sta3: and asked
	stAwaitTransport                      // Sta4: connecting
	stAwaitAnswer                         // Sta5: asked, not answered
	stData                                // Sta6: the association stands
	stAwaitReleaseReply                   // Sta7: release asked for
	stAwaitLocalRelease                   // Sta8: the peer asked for release
	stCollisionRequestor                  // Sta9: both did; we asked for the association
	stCollisionAcceptor                   // Sta10: both did; the peer asked for the association
	stCollisionReplied                    // Sta11: Sta9, answered
	stCollisionToReply                    // Sta12: Sta10, the peer has answered
	stAwaitClose                          // Sta13: over; the peer is to close the connection
)

func (s State) String() string { return fmt.Sprintf("Sta%d", byte(s)) }

// event is a row of table 9-10.
type event byte

const (
	evRequest         event = 1 + iota // Evt1: A-ASSOCIATE request (local user)
	evConnected                        // Evt2: transport connection is there
	evAssociateAC                      // Evt3
	evAssociateRJ                      // Evt4
	evIncoming                         // Evt5: a peer connects
	evAssociateRQ                      // Evt6
	evAccept                           // Evt7: A-ASSOCIATE response, accept (local user)
	evReject                           // Evt8: A-ASSOCIATE response, reject (local user)
	evSendData                         // Evt9: P-DATA request (local user)
	evPData                            // Evt10
	evRelease                          // Evt11: A-RELEASE request (local user)
	evReleaseRQ                        // Evt12
	evReleaseRP                        // Evt13
	evReleaseResponse                  // Evt14: A-RELEASE response (local user)
	evAbortRequest                     // Evt15: A-ABORT request (local user)
	evAbort                            // Evt16
	evClosed                           // Evt17: transport connection closed
	evExpired                          // Evt18: ARTIM timer expired
	evInvalid                          // Evt19: unknown or invalid PDU
)

func (e event) String() string { return fmt.Sprintf("Evt%d", byte(e)) }

// eventOf is the event of a PDU that has arrived.
func eventOf(k Kind) event {
	return [...]event{
		AssociateRQ: evAssociateRQ, AssociateAC: evAssociateAC, AssociateRJ: evAssociateRJ, PDataTF: evPData,
		ReleaseRQ: evReleaseRQ, ReleaseRP: evReleaseRP, Abort: evAbort,
	}[k]
}

// kindOf is the PDU of an event, 0 for one that is none.
func kindOf(e event) Kind {
	for k := AssociateRQ; k <= Abort; k++ {
		if eventOf(k) == e {
			return k
		}
	}
	return 0
}

// action is an entry of table 9-10, explained by tables 9-6 to 9-9. Indications and confirmations are what the Conn's methods
// return. The zero action is an empty cell: the event cannot be.
type action byte

const (
	ae1 action = 1 + iota
	ae2
	ae3
	ae4
	ae5
	ae6
	ae7
	ae8
	dt1
	dt2
	ar1
	ar2
	ar3
	ar4
	ar5
	ar6
	ar7
	ar8
	ar9
	ar10
	aa1
	aa2
	aa3
	aa4
	aa5
	aa6
	aa7
	aa8
)

type timer byte

const (
	keep timer = iota
	start
	stop
)

// effect is what an action does.
type effect struct {
	name  string
	send  Kind // 0: nothing
	artim timer
	close bool
	next  State
}

// effects is indexed by action. AE-6 is a state of its own here even if the peer is to be refused: the refusal is then the
// next event, Evt8. The next state of AR-8 is that of the requestor.
var effects = [...]effect{
	ae1:  {"AE-1", 0, keep, false, stAwaitTransport},
	ae2:  {"AE-2", AssociateRQ, keep, false, stAwaitAnswer},
	ae3:  {"AE-3", 0, keep, false, stData},
	ae4:  {"AE-4", 0, keep, true, stIdle},
	ae5:  {"AE-5", 0, start, false, stAwaitRequest},
	ae6:  {"AE-6", 0, stop, false, stAwaitLocalResponse},
	ae7:  {"AE-7", AssociateAC, keep, false, stData},
	ae8:  {"AE-8", AssociateRJ, start, false, stAwaitClose},
	dt1:  {"DT-1", PDataTF, keep, false, stData},
	dt2:  {"DT-2", 0, keep, false, stData},
	ar1:  {"AR-1", ReleaseRQ, keep, false, stAwaitReleaseReply},
	ar2:  {"AR-2", 0, keep, false, stAwaitLocalRelease},
	ar3:  {"AR-3", 0, keep, true, stIdle},
	ar4:  {"AR-4", ReleaseRP, start, false, stAwaitClose},
	ar5:  {"AR-5", 0, stop, true, stIdle},
	ar6:  {"AR-6", 0, keep, false, stAwaitReleaseReply},
	ar7:  {"AR-7", PDataTF, keep, false, stAwaitLocalRelease},
	ar8:  {"AR-8", 0, keep, false, stCollisionRequestor},
	ar9:  {"AR-9", ReleaseRP, keep, false, stCollisionReplied},
	ar10: {"AR-10", 0, keep, false, stCollisionToReply},
	aa1:  {"AA-1", Abort, start, false, stAwaitClose},
	aa2:  {"AA-2", 0, stop, true, stIdle},
	aa3:  {"AA-3", 0, keep, true, stIdle},
	aa4:  {"AA-4", 0, keep, true, stIdle},
	aa5:  {"AA-5", 0, stop, true, stIdle},
	aa6:  {"AA-6", 0, keep, false, stAwaitClose},
	aa7:  {"AA-7", Abort, keep, false, stAwaitClose},
	aa8:  {"AA-8", Abort, start, false, stAwaitClose},
}

// table is PS3.8 table 9-10. The columns are Sta1 to Sta13; "0," is an empty cell.
var table = [...][14]action{
	evRequest:         {0, ae1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evConnected:       {0, 0, 0, 0, ae2, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evAssociateAC:     {0, 0, aa1, aa8, 0, ae3, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa6},
	evAssociateRJ:     {0, 0, aa1, aa8, 0, ae4, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa6},
	evIncoming:        {0, ae5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evAssociateRQ:     {0, 0, ae6, aa8, 0, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa7},
	evAccept:          {0, 0, 0, ae7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evReject:          {0, 0, 0, ae8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evSendData:        {0, 0, 0, 0, 0, 0, dt1, 0, ar7, 0, 0, 0, 0, 0},
	evPData:           {0, 0, aa1, aa8, 0, aa8, dt2, ar6, aa8, aa8, aa8, aa8, aa8, aa6},
	evRelease:         {0, 0, 0, 0, 0, 0, ar1, 0, 0, 0, 0, 0, 0, 0},
	evReleaseRQ:       {0, 0, aa1, aa8, 0, aa8, ar2, ar8, aa8, aa8, aa8, aa8, aa8, aa6},
	evReleaseRP:       {0, 0, aa1, aa8, 0, aa8, aa8, ar3, aa8, aa8, ar10, ar3, aa8, aa6},
	evReleaseResponse: {0, 0, 0, 0, 0, 0, 0, 0, ar4, ar9, 0, 0, ar4, 0},
	evAbortRequest:    {0, 0, 0, aa1, aa2, aa1, aa1, aa1, aa1, aa1, aa1, aa1, aa1, 0},
	evAbort:           {0, 0, aa2, aa3, 0, aa3, aa3, aa3, aa3, aa3, aa3, aa3, aa3, aa2},
	evClosed:          {0, 0, aa5, aa4, aa4, aa4, aa4, aa4, aa4, aa4, aa4, aa4, aa4, ar5},
	evExpired:         {0, 0, aa2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, aa2},
	evInvalid:         {0, 0, aa1, aa8, 0, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa7},
}

// step is what the table says of an event, or false for an empty cell.
func step(e event, s State, requestor bool) (effect, bool) {
	a := table[e][s]
	if a == 0 {
		return effect{}, false
	}
	f := effects[a]
	if a == ar8 && !requestor {
		f.next = stCollisionAcceptor
	}
	return f, true
}
