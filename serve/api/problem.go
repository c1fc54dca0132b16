package api

import (
	"cmp"
	"fmt"
	"net/http"
	"time"
)

// Problem is a refusal in the form of RFC 9457, whose members code, hint and rejected are extensions. Code is stable:
// callers branch on it.
type Problem struct {
	Type     string      `json:"type,omitempty" doc:"Where the code is explained: a path of this server."`
	Title    string      `json:"title" doc:"What the code means."`
	Status   int         `json:"status" doc:"The HTTP status."`
	Code     string      `json:"code" doc:"What went wrong, stable across versions."`
	Detail   string      `json:"detail" doc:"What went wrong here: it names the file or the limit."`
	Cure     string      `json:"hint,omitempty" doc:"What the caller can do."`
	Rejected []Rejection `json:"rejected,omitempty" doc:"The objects that could not be used, each with its reason."`
	// RetryAfter is when to come again, of a problem that passes by itself; 0 is not known. It travels in the header of that name.
	RetryAfter time.Duration `json:"-"`
}

// NewProblem makes a problem of a code of the catalogue.
func NewProblem(status int, code, cure, format string, args ...any) *Problem {
	entry, _ := Lookup(code)
	return &Problem{
		Type: PathErrors + "#" + code, Title: cmp.Or(entry.Title, http.StatusText(status)), Status: status, Code: code, Cure: cure,
		Detail: fmt.Sprintf(format, args...),
	}
}

func (p *Problem) Error() string { return p.Detail }

// Hint returns the cure, for the programs' "hint:" line.
func (p *Problem) Hint() string { return p.Cure }

// Rejection is one object that was not used, and why.
type Rejection struct {
	Name   string `json:"name" doc:"The name it was sent under."`
	Code   string `json:"code" doc:"Why, stable across versions."`
	Detail string `json:"detail"`
}
