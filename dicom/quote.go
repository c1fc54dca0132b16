package dicom

import (
	"fmt"
	"slices"
)

// Quote is how an error names a value of a header: in quotes where it is one of the standard's terms, else not at all. A
// patient's name or number in the wrong place is not repeated so.
func Quote(value string, terms []string) string {
	switch {
	case value == "":
		return "(empty)"
	case slices.Contains(terms, value):
		return fmt.Sprintf("%q", value)
	}
	return "(no term of the standard)"
}
