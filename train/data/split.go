package data

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
)

// Split says what an image may be used for. All images of a patient have the same.
type Split uint8

const (
	Train Split = iota
	Validate
	Test
)

// Splits are all splits, in order.
var Splits = [...]Split{Train, Validate, Test}

var splitNames = [len(Splits)]string{"train", "validate", "test"}

func (s Split) String() string {
	if int(s) >= len(splitNames) {
		return "split(" + strconv.Itoa(int(s)) + ")"
	}
	return splitNames[s]
}

// ParseSplit reads "train", "validate" or "test".
func ParseSplit(name string) (Split, error) {
	for i, n := range splitNames {
		if n == name {
			return Split(i), nil
		}
	}
	return 0, fmt.Errorf("unknown split %q: want %s", name, strings.Join(splitNames[:], ", "))
}

// MarshalText makes splits readable in JSON, also as keys.
func (s Split) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSplit; flags of type Split work through it.
func (s *Split) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSplit(string(text))
	return err
}

// Shares are the parts of the patients that go to train, validate and test. They add up to 1.
type Shares [len(Splits)]float64

// UnmarshalText reads "0.8,0.1,0.1".
func (s *Shares) UnmarshalText(text []byte) error {
	fields := strings.Split(string(text), ",")
	if len(fields) != len(s) {
		return fmt.Errorf("shares %q: want three numbers, as in 0.8,0.1,0.1", text)
	}
	sum := 0.0
	for i, field := range fields {
		v, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || !(v >= 0 && v <= 1) {
			return fmt.Errorf("shares %q: %q is not a number from 0 to 1", text, field)
		}
		s[i] = v
		sum += v
	}
	if math.Abs(sum-1) > 1e-6 {
		return fmt.Errorf("shares %q: they add up to %.6g, not 1", text, sum)
	}
	return nil
}

// Fold is one part of a cross-validation: part I of N, from 1. It turns a split by I/N of the patients, so that N splits with a
// test share of 1/N test every patient exactly once. The zero value leaves the split as it is.
type Fold struct{ I, N int }

// UnmarshalText reads "2/4".
func (f *Fold) UnmarshalText(text []byte) error {
	i, n, _ := strings.Cut(string(text), "/")
	var errI, errN error
	f.I, errI = strconv.Atoi(i)
	f.N, errN = strconv.Atoi(n)
	if errI != nil || errN != nil || f.I < 1 || f.I > f.N {
		return fmt.Errorf("fold %q: want a part of a number of parts, as in 2/4", text)
	}
	return nil
}

// check refuses shares whose test sets would overlap from fold to fold, or leave patients untested.
func (f Fold) check(s *Shares) error {
	if f.N == 0 || s != nil && math.Abs(s[Test]-1/float64(f.N)) < 1e-3 {
		return nil
	}
	return hint.Wrap(fmt.Errorf("fold %d of %d: the test share is not 1/%d", f.I, f.N, f.N),
		"give the shares, as in --split-shares 0.65,0.1,0.25 --fold %d/4", min(f.I, 4))
}

// splitOf places a patient by a hash of seed, dataset and patient alone, so that a patient stays where it is when the
// dataset grows.
func (s Shares) splitOf(seed uint64, dataset, patient string, fold Fold) Split {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\x00%s\x00%s", seed, dataset, patient))
	at := float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53) // [0,1)
	if fold.N > 0 {
		_, at = math.Modf(at + float64(fold.I)/float64(fold.N))
	}
	switch {
	case at < s[Train]:
		return Train
	case at < s[Train]+s[Validate] || s[Test] == 0: // the shares' sum may round to just below 1
		return Validate
	default:
		return Test
	}
}
