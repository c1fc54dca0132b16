package pacs

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Node is another application: its AE title and where it listens. Host and Port may be empty where only the title counts.
type Node struct {
	AE   string
	Host string
	Port int
}

// ParseNode reads AE or AE@HOST:PORT, of which HOST may be an IPv6 address in brackets.
func ParseNode(s string) (Node, error) {
	ae, address, located := strings.Cut(s, "@")
	if err := CheckAE(ae); err != nil {
		return Node{}, err
	}
	if !located {
		return Node{AE: ae}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Node{}, fmt.Errorf("%q is not HOST:PORT", address)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return Node{}, fmt.Errorf("%q is no port", port)
	}
	if host == "" {
		return Node{}, fmt.Errorf("%q names no host", address)
	}
	return Node{ae, host, n}, nil
}

// UnmarshalText lets a Node be a flag.
func (n *Node) UnmarshalText(text []byte) (err error) {
	*n, err = ParseNode(string(text))
	return err
}

// Address is what to dial, or "" where it is not known.
func (n Node) Address() string {
	if n.Host == "" {
		return ""
	}
	return net.JoinHostPort(n.Host, strconv.Itoa(n.Port))
}

func (n Node) String() string {
	if n.Host == "" {
		return n.AE
	}
	return n.AE + "@" + n.Address()
}

// CheckAE says what is wrong with an AE title (PS3.5 table 6.2-1, VR AE).
func CheckAE(title string) error {
	switch {
	case strings.TrimSpace(title) == "":
		return errors.New("an AE title must not be empty")
	case len(title) > 16:
		return fmt.Errorf("AE title %q has more than 16 characters", title)
	case strings.ContainsFunc(title, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }):
		return fmt.Errorf("AE title %q may hold ASCII alone, and no backslash", title)
	}
	return nil
}

// checkUID says what is wrong with a UID (PS3.5 9.1). Leading zeros of a component are let through: senders make them.
func checkUID(uid string) error {
	switch {
	case uid == "":
		return errors.New("is empty")
	case len(uid) > 64:
		return errors.New("has more than 64 characters")
	case strings.ContainsFunc(uid, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }):
		return errors.New("may hold digits and dots alone")
	}
	return nil
}
