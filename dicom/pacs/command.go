package pacs

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// The DIMSE commands (PS3.7 E.1). A response is its request with the top bit set.
const (
	cStoreRQ       = 0x0001
	cFindRQ        = 0x0020
	cMoveRQ        = 0x0021
	cEchoRQ        = 0x0030
	nEventReportRQ = 0x0100
	nActionRQ      = 0x0130
	cCancelRQ      = 0x0FFF
	response       = 0x8000
)

const (
	noDataSet    = 0x0101 // of CommandDataSetType; anything else says that a data set follows
	withDataSet  = 0x0000
	priorityHigh = 0x0001 // of Priority; 0 is medium, 2 is low (PS3.7 9.3.1.1)
)

// command is a command set (PS3.7 9.3, 10.3): the elements that any message of this package has.
type command struct {
	SOPClass    string // affected or requested, of which a message has one
	SOPInstance string
	Field       uint16
	MessageID   uint16 // of a request
	RespondedTo uint16 // MessageIDBeingRespondedTo, of a response
	DataSet     bool
	Status      Status
	Comment     string // ErrorComment
	Priority    uint16 // of C-STORE, C-FIND, C-MOVE
	EventType   uint16 // of N-EVENT-REPORT
	ActionType  uint16 // of N-ACTION
	Destination string // MoveDestination
	Remaining   uint16 // sub-operations of C-MOVE
	Completed   uint16
	Failed      uint16
	Warning     uint16
}

// The elements of group 0 (PS3.7 E.1).
const (
	elGroupLength       = 0x0000
	elAffectedClass     = 0x0002
	elRequestedClass    = 0x0003
	elField             = 0x0100
	elMessageID         = 0x0110
	elRespondedTo       = 0x0120
	elDestination       = 0x0600
	elPriority          = 0x0700
	elDataSetType       = 0x0800
	elStatus            = 0x0900
	elComment           = 0x0902
	elAffectedInstance  = 0x1000
	elRequestedInstance = 0x1001
	elEventType         = 0x1002
	elActionType        = 0x1008
	elRemaining         = 0x1020
	elCompleted         = 0x1021
	elFailed            = 0x1022
	elWarning           = 0x1023

	maxCommentChars = 64 // VR LO
)

func (c *command) isResponse() bool { return c.Field&response != 0 }

// answer is the response to c.
func (c *command) answer(status Status, comment string) *command {
	return &command{
		SOPClass: c.SOPClass, SOPInstance: c.SOPInstance, Field: c.Field | response, RespondedTo: c.MessageID,
		Status: status, Comment: comment, EventType: c.EventType, ActionType: c.ActionType,
	}
}

// encode gives the command set, implicit VR little endian (PS3.7 6.3.1), the elements in order.
func (c *command) encode() []byte {
	b := make([]byte, 12, 256)
	text := func(element uint16, s string, pad byte) {
		if s == "" {
			return
		}
		b = appendElement(b, element, len(s)+len(s)%2)
		b = append(b, s...)
		b = append(b, []byte{pad}[:len(s)%2]...)
	}
	number := func(element uint16, n uint16) {
		b = appendElement(b, element, 2)
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	request := c.Field == nActionRQ
	if request {
		text(elRequestedClass, c.SOPClass, 0)
	} else {
		text(elAffectedClass, c.SOPClass, 0)
	}
	number(elField, c.Field)
	switch {
	case c.Field == cCancelRQ || c.isResponse():
		number(elRespondedTo, c.RespondedTo)
	default:
		number(elMessageID, c.MessageID)
	}
	text(elDestination, c.Destination, ' ')
	switch c.Field {
	case cStoreRQ, cFindRQ, cMoveRQ:
		number(elPriority, c.Priority)
	}
	if c.DataSet {
		number(elDataSetType, withDataSet)
	} else {
		number(elDataSetType, noDataSet)
	}
	if c.isResponse() {
		number(elStatus, uint16(c.Status))
		text(elComment, c.Comment[:min(len(c.Comment), maxCommentChars)], ' ')
	}
	if request {
		text(elRequestedInstance, c.SOPInstance, 0)
	} else {
		text(elAffectedInstance, c.SOPInstance, 0)
	}
	if c.EventType != 0 {
		number(elEventType, c.EventType)
	}
	if c.ActionType != 0 {
		number(elActionType, c.ActionType)
	}
	if c.Field == cMoveRQ|response {
		for i, n := range []uint16{c.Remaining, c.Completed, c.Failed, c.Warning} {
			number(elRemaining+uint16(i), n)
		}
	}
	copy(b, appendElement(nil, elGroupLength, 4))
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-12))
	return b
}

func appendElement(b []byte, element uint16, length int) []byte {
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint16(b, element)
	return binary.LittleEndian.AppendUint32(b, uint32(length))
}

// decodeCommand reads a command set. Elements that no message here needs are skipped.
func decodeCommand(b []byte) (*command, error) {
	c := &command{}
	field := false
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("command set: %d stray bytes", len(b))
		}
		group, element := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		length := binary.LittleEndian.Uint32(b[4:])
		if group != 0 {
			return nil, fmt.Errorf("command set: an element of group %04X", group)
		}
		if uint64(length) > uint64(len(b)-8) {
			return nil, fmt.Errorf("command set: element %04X has %d bytes where %d are left", element, length, len(b)-8)
		}
		value := b[8 : 8+length]
		b = b[8+length:]
		if n := c.number(element); n != nil {
			if length != 2 {
				return nil, fmt.Errorf("command set: element %04X has %d bytes in place of 2", element, length)
			}
			*n = binary.LittleEndian.Uint16(value)
			field = field || element == elField
		} else if s := c.text(element); s != nil {
			*s = strings.Trim(string(value), " \x00")
		} else if element == elDataSetType {
			c.DataSet = length != 2 || binary.LittleEndian.Uint16(value) != noDataSet
		}
	}
	if !field {
		return nil, fmt.Errorf("command set: no command")
	}
	return c, nil
}

// number is where the value of an element of VR US goes, nil if it is none of these.
func (c *command) number(element uint16) *uint16 {
	switch element {
	case elField:
		return &c.Field
	case elMessageID:
		return &c.MessageID
	case elRespondedTo:
		return &c.RespondedTo
	case elPriority:
		return &c.Priority
	case elStatus:
		return (*uint16)(&c.Status)
	case elEventType:
		return &c.EventType
	case elActionType:
		return &c.ActionType
	case elRemaining:
		return &c.Remaining
	case elCompleted:
		return &c.Completed
	case elFailed:
		return &c.Failed
	case elWarning:
		return &c.Warning
	}
	return nil
}

// text is where the value of a text element goes.
func (c *command) text(element uint16) *string {
	switch element {
	case elAffectedClass, elRequestedClass:
		return &c.SOPClass
	case elAffectedInstance, elRequestedInstance:
		return &c.SOPInstance
	case elComment:
		return &c.Comment
	case elDestination:
		return &c.Destination
	}
	return nil
}
