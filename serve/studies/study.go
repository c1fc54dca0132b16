package studies

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Study is what is held of one study, at one moment.
type Study struct {
	UID      string
	Objects  []Object  // in the order they came
	Outcomes []Outcome // without their results; the first version's first
}

// Version names the objects of a study: other objects, another version.
func (s *Study) Version() string {
	digests := s.digests()
	sum := sha256.Sum256([]byte(strings.Join(digests, "\n")))
	return hex.EncodeToString(sum[:])
}

func (s *Study) digests() []string {
	digests := make([]string, len(s.Objects))
	for i, o := range s.Objects {
		digests[i] = o.Digest
	}
	slices.Sort(digests)
	return digests
}

// Current is the outcome of the study as it is now, nil while there is none.
func (s *Study) Current() *Outcome { return s.outcome(s.Version()) }

// Latest is the outcome of the most objects, nil where there is none.
func (s *Study) Latest() *Outcome {
	if len(s.Outcomes) == 0 {
		return nil
	}
	return &s.Outcomes[len(s.Outcomes)-1]
}

func (s *Study) outcome(version string) *Outcome {
	for i := range s.Outcomes {
		if s.Outcomes[i].Version == version {
			return &s.Outcomes[i]
		}
	}
	return nil
}

// LastReceived is when the last object came.
func (s *Study) LastReceived() time.Time {
	if len(s.Objects) == 0 {
		return time.Time{}
	}
	return s.Objects[len(s.Objects)-1].Received
}

// Stat says whether the sender of one of the objects wants the study answered before others.
func (s *Study) Stat() bool {
	return slices.ContainsFunc(s.Objects, func(o Object) bool { return o.Source.Stat })
}

// Conflicts says what to do with two objects of one SOP Instance UID and different bytes.
type Conflicts string

// The ways to decide a conflict. Whatever is chosen, all objects are kept, and the views concerned are flagged.
const (
	UseBoth  Conflicts = "both"  // both are views of the study
	UseFirst Conflicts = "first" // the one that came first
	UseLast  Conflicts = "last"  // the one that came last
)

// Used returns the objects to classify, in the order they came.
func (s *Study) Used(c Conflicts) []Object {
	if c == UseBoth || c == "" {
		return s.Objects
	}
	chosen := map[string]int{}
	for i, o := range s.Objects {
		if _, ok := chosen[o.SOPInstanceUID]; !ok || c == UseLast {
			chosen[o.SOPInstanceUID] = i
		}
	}
	var used []Object
	for i, o := range s.Objects {
		if chosen[o.SOPInstanceUID] == i {
			used = append(used, o)
		}
	}
	return used
}

// State is what became of a version of a study.
type State string

// The final states. What is not final is not on disk.
const (
	Done      State = "done"      // there is a result
	Refused   State = "refused"   // the study cannot be classified: Problem says why
	Dead      State = "dead"      // it was tried in vain as often as is allowed: a dead letter
	Discarded State = "discarded" // a dead letter that an operator gave up
)

// Outcome is what became of a version of a study. It is written once.
type Outcome struct {
	StudyInstanceUID string    `json:"study_instance_uid"`
	Version          string    `json:"version"`
	State            State     `json:"state" enum:"done,refused,dead,discarded"`
	Objects          []string  `json:"objects" doc:"The digests of the version's objects."`
	Finished         time.Time `json:"finished"`
	Attempts         int       `json:"attempts" doc:"How often it was tried."`
	// Supersedes and SupersededBy follow from the outcomes that there are. They are not on disk: two servers may finish two
	// versions of a study at the same time.
	Supersedes   string          `json:"supersedes,omitempty" doc:"The version that this one takes the place of."`
	SupersededBy string          `json:"superseded_by,omitempty" doc:"The version that took its place."`
	Reason       string          `json:"reason,omitempty" doc:"Why the study is a dead letter."`
	Result       json.RawMessage `json:"result,omitempty" doc:"The study's findings."`
	Problem      json.RawMessage `json:"problem,omitempty" doc:"Why the study was refused."`

	Sent map[string]bool `json:"-"` // the sinks that have confirmed it
}

// summary is o without what is large.
func (o Outcome) summary() Outcome {
	o.Result, o.Problem = nil, nil
	return o
}

// sortObjects puts objects in the order they came and marks conflicts.
func sortObjects(list []Object) {
	slices.SortFunc(list, func(a, b Object) int {
		return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(a.Digest, b.Digest))
	})
	count := map[string]int{}
	for _, o := range list {
		count[o.SOPInstanceUID]++
	}
	for i := range list {
		list[i].Conflict = count[list[i].SOPInstanceUID] > 1
	}
}

// sortOutcomes puts the outcome of most objects last and links them. A study only grows, so that is the order of its versions,
// whichever was finished first.
func sortOutcomes(list []Outcome) {
	slices.SortFunc(list, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(len(a.Objects), len(b.Objects)), a.Finished.Compare(b.Finished))
	})
	for i := range list[:max(len(list)-1, 0)] {
		list[i].SupersededBy, list[i+1].Supersedes = list[i+1].Version, list[i].Version
	}
}
