package api

import (
	"cmp"
	"slices"
	"sync"
)

// PathErrors is where a server shows its codes, each at the anchor of its name.
const PathErrors = "/docs/errors"

// Kind is where a code appears.
type Kind string

// The kinds of codes.
const (
	OfProblem     Kind = "problem"     // code of a problem document
	OfRejection   Kind = "rejection"   // rejected[].code: one object of a study
	OfFlag        Kind = "flag"        // flags of a view or a study
	OfAssociation Kind = "association" // logged and counted by the DICOM node
)

// Entry explains a code. Its words are for the one who meets it: docs/errors.md and the server's page are made of them.
type Entry struct {
	Code  string
	Kinds []Kind
	Title string // in a few words, the title of a problem
	What  string // what happened
	Cure  string // what to do about it; "" if there is nothing
}

// Catalogue is every code that the programs answer with, in alphabetical order.
func Catalogue() []Entry { return slices.Clone(catalogue()) }

var catalogue = sync.OnceValue(func() []Entry {
	all := slices.Concat(problems(), rejections(), flags(), associations())
	slices.SortStableFunc(all, func(a, b Entry) int { return cmp.Compare(a.Code, b.Code) })
	merged := all[:0]
	for _, e := range all {
		if n := len(merged); n > 0 && merged[n-1].Code == e.Code { // one name, met in two places
			last := &merged[n-1]
			last.Kinds = append(last.Kinds, e.Kinds...)
			last.What += " " + e.What
			continue
		}
		merged = append(merged, e)
	}
	return merged
})

// Lookup returns the entry of a code.
func Lookup(code string) (Entry, bool) {
	all := catalogue()
	i, found := slices.BinarySearchFunc(all, code, func(e Entry, code string) int { return cmp.Compare(e.Code, code) })
	if !found {
		return Entry{}, false
	}
	return all[i], true
}

func kind(k Kind, rows [][4]string) []Entry {
	entries := make([]Entry, len(rows))
	for i, r := range rows {
		entries[i] = Entry{Code: r[0], Kinds: []Kind{k}, Title: r[1], What: r[2], Cure: r[3]}
	}
	return entries
}
