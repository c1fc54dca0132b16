package serve

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/mvmae/mvmae/serve/api"
)

// Problem is a refusal: see api.Problem.
type Problem = api.Problem

// Rejection is one object that was not used: see api.Rejection.
type Rejection = api.Rejection

func problem(status int, code, cure, format string, args ...any) *Problem {
	return api.NewProblem(status, code, cure, format, args...)
}

// HashUID names a study where its UID must not be: the first 48 bits of the UID's SHA-256, in hexadecimal. No UID has
// no name.
func HashUID(uid string) string {
	if uid == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(uid))
	return hex.EncodeToString(sum[:6])
}
