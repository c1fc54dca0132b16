package upper

import (
	"encoding/binary"
	"strings"
)

// Associate is the content of an A-ASSOCIATE-RQ or -AC (PS3.8 9.3.2, 9.3.3).
type Associate struct {
	CalledAE  string
	CallingAE string
	Contexts  []Context
	// MaxPDU is the largest P-DATA-TF length that the sender of this PDU takes; 0 is any (PS3.8 D.1).
	MaxPDU                uint32
	ImplementationClass   string
	ImplementationVersion string
	Roles                 []Role
}

// Context is a presentation context: in a request what is proposed, in an answer one transfer syntax and the result.
type Context struct {
	ID               byte // odd
	AbstractSyntax   string
	TransferSyntaxes []string
	Result           Result
}

// Result says what became of a presentation context (PS3.8 table 9-18).
type Result byte

const (
	Accepted Result = iota
	UserRejection
	NoReason
	AbstractSyntaxNotSupported
	TransferSyntaxesNotSupported
)

// Role is an item of the SCP/SCU role selection (PS3.7 D.3.3.4), of the requestor of the association.
type Role struct {
	SOPClass string
	SCU, SCP bool
}

const (
	itemApplicationContext = 0x10
	itemContextRQ          = 0x20
	itemContextAC          = 0x21
	itemAbstractSyntax     = 0x30
	itemTransferSyntax     = 0x40
	itemUser               = 0x50
	itemMaxPDU             = 0x51
	itemClass              = 0x52
	itemRole               = 0x54
	itemVersion            = 0x55

	protocolVersion    = 1
	applicationContext = "1.2.840.10008.3.1.1.1" // DICOM's only one (PS3.7 A.2.1)
	aeBytes            = 16
	fixedBytes         = 2 + 2 + 2*aeBytes + 32 // of an A-ASSOCIATE-RQ or -AC, before the items
	maxContexts        = 128
	maxSyntaxes        = 128 // of one context
	maxRoles           = 128
	maxUIDBytes        = 64
)

// encode gives the whole PDU. Titles and UIDs longer than the standard's are cut.
func (a *Associate) encode(k Kind) []byte {
	body := binary.BigEndian.AppendUint16(nil, protocolVersion)
	body = append(body, 0, 0)
	for _, title := range []string{a.CalledAE, a.CallingAE} {
		field := []byte(strings.Repeat(" ", aeBytes))
		copy(field, title)
		body = append(body, field...)
	}
	body = append(body, make([]byte, 32)...)
	body = appendItem(body, itemApplicationContext, []byte(applicationContext))
	for _, c := range a.Contexts {
		inner := []byte{c.ID, 0, byte(c.Result), 0}
		kind := byte(itemContextAC)
		if k == AssociateRQ {
			kind = itemContextRQ
			inner = appendItem(inner, itemAbstractSyntax, []byte(c.AbstractSyntax))
		}
		for _, s := range c.TransferSyntaxes {
			inner = appendItem(inner, itemTransferSyntax, []byte(s))
		}
		body = appendItem(body, kind, inner)
	}
	user := appendItem(nil, itemMaxPDU, binary.BigEndian.AppendUint32(nil, a.MaxPDU))
	user = appendItem(user, itemClass, []byte(a.ImplementationClass))
	for _, r := range a.Roles {
		inner := binary.BigEndian.AppendUint16(nil, uint16(len(r.SOPClass)))
		inner = append(inner, r.SOPClass...)
		user = appendItem(user, itemRole, append(inner, bit(r.SCU), bit(r.SCP)))
	}
	user = appendItem(user, itemVersion, []byte(a.ImplementationVersion))
	body = appendItem(body, itemUser, user)
	return append(appendHeader(nil, k, len(body)), body...)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendItem(b []byte, kind byte, value []byte) []byte {
	b = append(b, kind, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// decodeAssociate reads the body of an A-ASSOCIATE-RQ or -AC.
func decodeAssociate(k Kind, body []byte) (*Associate, error) {
	if len(body) < fixedBytes {
		return nil, breach("%s of %d bytes, the least is %d", k, len(body), fixedBytes)
	}
	if binary.BigEndian.Uint16(body)&protocolVersion == 0 {
		return nil, breach("%s without protocol version 1", k)
	}
	a := &Associate{CalledAE: title(body[4:]), CallingAE: title(body[4+aeBytes:])}
	application := ""
	err := items(body[fixedBytes:], func(kind byte, value []byte) error {
		switch {
		case kind == itemApplicationContext:
			application = uidOf(value)
		case kind == itemContextRQ && k == AssociateRQ, kind == itemContextAC && k == AssociateAC:
			c, err := decodeContext(k, value)
			if err != nil {
				return err
			}
			if a.Contexts = append(a.Contexts, c); len(a.Contexts) > maxContexts {
				return breach("more than %d presentation contexts", maxContexts)
			}
		case kind == itemUser:
			return items(value, a.userItem)
		}
		return nil // what later editions of the standard add is skipped (PS3.8 9.3.1)
	})
	if err != nil {
		return nil, err
	}
	if k == AssociateRQ && application != applicationContext {
		return nil, breach("%s for another application context than DICOM's", k)
	}
	return a, nil
}

func decodeContext(k Kind, value []byte) (Context, error) {
	if len(value) < 4 {
		return Context{}, breach("a presentation context of %d bytes", len(value))
	}
	c := Context{ID: value[0]}
	if c.ID%2 == 0 {
		return c, breach("presentation context %d: it must be odd", c.ID)
	}
	if k == AssociateAC {
		c.Result = Result(value[2])
	}
	err := items(value[4:], func(kind byte, value []byte) error {
		switch kind {
		case itemAbstractSyntax:
			c.AbstractSyntax = uidOf(value)
		case itemTransferSyntax:
			if c.TransferSyntaxes = append(c.TransferSyntaxes, uidOf(value)); len(c.TransferSyntaxes) > maxSyntaxes {
				return breach("more than %d transfer syntaxes in a presentation context", maxSyntaxes)
			}
		}
		return nil
	})
	return c, err
}

// userItem reads a sub-item of the user information (PS3.7 D.3.3).
func (a *Associate) userItem(kind byte, value []byte) error {
	switch kind {
	case itemMaxPDU:
		if len(value) != 4 {
			return breach("a maximum length of %d bytes", len(value))
		}
		a.MaxPDU = binary.BigEndian.Uint32(value)
	case itemClass:
		a.ImplementationClass = uidOf(value)
	case itemVersion:
		a.ImplementationVersion = title(value)
	case itemRole:
		if len(value) < 4 || int(binary.BigEndian.Uint16(value)) != len(value)-4 {
			return breach("a role selection of %d bytes, with another length inside", len(value))
		}
		n := len(value) - 2
		a.Roles = append(a.Roles, Role{uidOf(value[2:n]), value[n] == 1, value[n+1] == 1})
		if len(a.Roles) > maxRoles {
			return breach("more than %d role selections", maxRoles)
		}
	}
	return nil
}

// items walks items of type, reserved byte, 16-bit length and value.
func items(b []byte, yield func(kind byte, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return breach("%d stray bytes after the items", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return breach("an item of type %02X and %d bytes where %d are left", b[0], n, len(b)-4)
		}
		if err := yield(b[0], b[4:4+n]); err != nil {
			return err
		}
		b = b[4+n:]
	}
	return nil
}

// title reads an AE title or a name of 16 bytes at most: spaces around it do not count (PS3.8 table 9-11).
func title(b []byte) string { return strings.Trim(string(b[:min(len(b), aeBytes)]), " \x00") }

// uidOf reads a UID; one that is too long is cut and so matches none.
func uidOf(b []byte) string { return strings.Trim(string(b[:min(len(b), maxUIDBytes)]), " \x00") }
