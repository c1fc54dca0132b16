package serve

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"
)

// Problem is a refusal in the form of RFC 9457, whose members code, hint and rejected are extensions. Code is stable:
// callers branch on it.
type Problem struct {
	Title    string      `json:"title" doc:"The words of the HTTP status."`
	Status   int         `json:"status" doc:"The HTTP status."`
	Code     string      `json:"code" doc:"What went wrong, stable across versions."`
	Detail   string      `json:"detail" doc:"What went wrong here: it names the file or the limit."`
	Cure     string      `json:"hint,omitempty" doc:"What the caller can do."`
	Rejected []Rejection `json:"rejected,omitempty" doc:"The objects that could not be used, each with its reason."`

	retryAfter time.Duration // of a problem that passes by itself; 0 is not known
}

func problem(status int, code, cure, format string, args ...any) *Problem {
	return &Problem{
		Title: http.StatusText(status), Status: status, Code: code, Cure: cure, Detail: fmt.Sprintf(format, args...),
	}
}

func (p *Problem) Error() string { return p.Detail }

// Hint returns the cure, for the programs' "hint:" line.
func (p *Problem) Hint() string { return p.Cure }

// HashUID names a study where its UID must not be: the first 48 bits of the UID's SHA-256, in hexadecimal. No UID has
// no name.
func HashUID(uid string) string {
	if uid == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(uid))
	return hex.EncodeToString(sum[:6])
}
