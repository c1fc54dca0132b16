package serve

import (
	"crypto/hmac"
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

// HashUID names a study to its own sender, who can make the same of the UID: the first 48 bits of the UID's SHA-256, in hexadecimal. No UID has
// no name.
func HashUID(uid string) string {
	if uid == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(uid))
	return hex.EncodeToString(sum[:6])
}

// UIDKey is a secret that names studies where others than the caller read: in the log, the audit log and spans. Devices make UIDs
// of their own root, the time and a count, so whoever knows the device can guess them, and try each against a hash without a key.
type UIDKey []byte

// Hash is the first 48 bits of the UID's HMAC-SHA-256, in hexadecimal; without a key it is HashUID.
func (k UIDKey) Hash(uid string) string {
	if len(k) == 0 || uid == "" {
		return HashUID(uid)
	}
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(uid))
	return hex.EncodeToString(mac.Sum(nil)[:6])
}
