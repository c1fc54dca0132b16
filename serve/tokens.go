package serve

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/mvmae/mvmae/internal/hint"
)

// MinSecretBytes is as much as nobody guesses: of a token, and of the webhook's secret.
const MinSecretBytes = 16

// Tokens are the bearer tokens (RFC 6750) that a file lists, one a line:
//
//	NAME TOKEN|sha256:HEX [requests=N] [rate=N]
//
// What follows # is a comment. A token is at least MinSecretBytes long, or is given by its SHA-256. requests is how many
// requests of the caller are answered at a time, rate how many are taken in a second. The file may change while it is used.
type Tokens struct{ file *watched[callers] }

// callers are found by the SHA-256 of their token: how long that takes says nothing about it.
type callers map[[sha256.Size]byte]*caller

// caller is who a token was given to.
type caller struct {
	name     string
	requests int     // at a time; 0 is any number
	rate     float64 // in a second; 0 is any number

	*use
}

// use is what a caller does now. It lasts when the file is read again.
type use struct {
	running atomic.Int64
	bucket  *rate.Limiter // nil without a rate
}

// OpenTokens reads a file of tokens.
func OpenTokens(path string) (*Tokens, error) {
	file, err := watch(func(old callers) (callers, error) { return readTokens(path, old) }, path)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return &Tokens{file}, nil
}

func readTokens(path string, old callers) (callers, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	known := map[string]*caller{}
	for _, c := range old {
		known[c.name] = c
	}
	list, names := callers{}, map[string]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		sum, c, err := parseToken(fields)
		switch {
		case err != nil: // the line itself stays unsaid: it holds a secret
		case names[c.name]:
			err = fmt.Errorf("a second token of the name %s", c.name)
		case list[sum] != nil:
			err = fmt.Errorf("%s has the token of %s", c.name, list[sum].name)
		}
		if err != nil {
			return nil, hint.Wrap(fmt.Errorf("%s:%d: %w", path, n, err), "%s", cmp.Or(hint.Of(err), "a line is NAME TOKEN [requests=N] [rate=N]"))
		}
		if was := known[c.name]; was != nil && was.requests == c.requests && was.rate == c.rate {
			c.use = was.use
		}
		list[sum], names[c.name] = c, true
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(list) == 0 {
		return nil, hint.Wrap(fmt.Errorf("%s holds no token", path), "openssl rand -hex 32 makes one; a line is NAME TOKEN")
	}
	return list, nil
}

// parseToken reads the words of a line.
func parseToken(fields []string) (sum [sha256.Size]byte, c *caller, err error) {
	if len(fields) < 2 {
		return sum, nil, errors.New("a name without a token")
	}
	c = &caller{name: fields[0], use: &use{}}
	if digest, hashed := strings.CutPrefix(fields[1], "sha256:"); hashed {
		raw, err := hex.DecodeString(digest)
		if err != nil || len(raw) != len(sum) {
			return sum, nil, hint.Wrap(fmt.Errorf("the token of %s is no SHA-256", c.name), "printf %%s TOKEN | sha256sum")
		}
		sum = [sha256.Size]byte(raw)
	} else {
		if len(fields[1]) < MinSecretBytes {
			return sum, nil, hint.Wrap(fmt.Errorf("the token of %s has fewer than %d bytes", c.name, MinSecretBytes), "openssl rand -hex 32")
		}
		sum = sha256.Sum256([]byte(fields[1]))
	}
	for _, field := range fields[2:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "requests":
			c.requests, err = strconv.Atoi(value)
		case "rate":
			c.rate, err = strconv.ParseFloat(value, 64)
		default:
			return sum, nil, fmt.Errorf("unknown limit %s of %s", key, c.name)
		}
		if err != nil || c.requests < 0 || !(c.rate >= 0 && c.rate < 1e9) {
			return sum, nil, fmt.Errorf("limit %s of %s is no number from 0 on", key, c.name)
		}
	}
	if c.rate > 0 {
		c.bucket = rate.NewLimiter(rate.Limit(c.rate), max(1, int(c.rate)))
	}
	return sum, c, nil
}

// find returns whose token it is, or nil.
func (t *Tokens) find(token string) *caller { return t.file.get()[sha256.Sum256([]byte(token))] }

// enter begins a request, which leave ends; ok is false for one too many.
func (c *caller) enter() (leave func(), ok bool) {
	if n := c.running.Add(1); c.requests > 0 && n > int64(c.requests) || c.bucket != nil && !c.bucket.Allow() {
		c.running.Add(-1)
		return nil, false
	}
	return func() { c.running.Add(-1) }, true
}
