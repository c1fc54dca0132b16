package data

import (
	"fmt"
	"slices"
	"strings"
)

// Remark is one kind of thing that an index or a pack met and would otherwise pass over in silence.
type Remark struct {
	Code    string   `json:"code"` // stable
	Text    string   `json:"text"` // what it means
	Refused bool     `json:"refused"`
	Count   int      `json:"count"` // of Items
	Items   []string `json:"items"` // files, columns, values: each named
}

// Remarks are what was met, refusals first, then by code.
type Remarks []Remark

// add notes one item. The text of a code is that of its first item.
func (r *Remarks) add(refused bool, code, text, item string) {
	i := slices.IndexFunc(*r, func(m Remark) bool { return m.Code == code })
	if i < 0 {
		i = len(*r)
		*r = append(*r, Remark{Code: code, Text: text, Refused: refused})
	}
	m := &(*r)[i]
	m.Count++
	m.Items = append(m.Items, item)
}

func (r *Remarks) refuse(code, text, item string) { r.add(true, code, text, item) }
func (r *Remarks) note(code, text, item string)   { r.add(false, code, text, item) }

func (r Remarks) sort() {
	slices.SortStableFunc(r, func(a, b Remark) int {
		if a.Refused != b.Refused {
			if a.Refused {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Code, b.Code)
	})
}

// Refused is the number of items that were left out.
func (r Remarks) Refused() int {
	n := 0
	for _, m := range r {
		if m.Refused {
			n += m.Count
		}
	}
	return n
}

// Text is for people: a line per code, and of each the first max items.
func (r Remarks) Text(max int) string {
	var b strings.Builder
	for _, m := range r {
		verb := "note"
		if m.Refused {
			verb = "left out"
		}
		fmt.Fprintf(&b, "%s: %d %s (%s)\n", verb, m.Count, m.Text, m.Code)
		for _, item := range m.Items[:min(max, len(m.Items))] {
			fmt.Fprintf(&b, "    %s\n", item)
		}
		if more := len(m.Items) - max; more > 0 {
			fmt.Fprintf(&b, "    and %d more\n", more)
		}
	}
	return b.String()
}
