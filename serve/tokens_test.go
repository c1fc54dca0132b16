package serve

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve/servetest"
)

const tokenA, tokenB = "0123456789abcdef", "fedcba9876543210"

func tokensOf(t *testing.T, lines ...string) (tokens *Tokens, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "tokens")
	replace(t, path, strings.Join(lines, "\n"))
	tokens, err := OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, path
}

// replace puts a file in place as a careful person does.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// asked is a request with a token, or none.
func asked(s *Server, method, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestTokens_WhoMayAsk(t *testing.T) {
	tokens, path := tokensOf(t, "# who may ask", "pacs "+tokenA, fmt.Sprintf("viewer sha256:%x # a comment", sha256.Sum256([]byte(tokenB))))
	var log strings.Builder
	s := readyServer(t, &fakeModel{}, ServerOptions{Tokens: tokens, Logger: textLogger(&log)})
	for _, c := range []struct {
		name, path, token string
		status            int
	}{
		{"health", pathLive, "", 200}, {"readiness", pathReady, "", 200},
		{"nobody", pathModels, "", 401}, {"nobody, nowhere", "/nothing", "", 401}, {"another's", pathModels, "0123456789abcdeX", 401},
		{"the hash is no token", pathModels, fmt.Sprintf("%x", sha256.Sum256([]byte(tokenB))), 401},
		{"plain", pathModels, tokenA, 200}, {"hashed", pathModels, tokenB, 200}, {"nowhere", "/nothing", tokenA, 404},
	} {
		w := asked(s, "GET", c.path, c.token)
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, w.Code, c.status, w.Body)
		}
		if c.status == 401 && (problemOf(t, w).Code != "unauthenticated" || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer")) {
			t.Errorf("%s: %s, headers %v", c.name, w.Body, w.Header())
		}
	}
	if !strings.Contains(log.String(), "caller=viewer") || strings.Contains(log.String(), tokenA) {
		t.Errorf("the log lacks the caller, or holds a token:\n%s", log.String())
	}
	replace(t, path, "viewer "+tokenA)
	if w := asked(s, "GET", pathModels, tokenB); w.Code != 401 {
		t.Errorf("a token that was taken back: status %d", w.Code)
	}
	replace(t, path, "viewer short")
	if w := asked(s, "GET", pathModels, tokenA); w.Code != 200 {
		t.Errorf("a bad file leaves the one before: status %d", w.Code)
	}
}

func TestTokens_BadFilesAreNamed(t *testing.T) {
	for _, c := range []struct{ content, want, hint string }{
		{"", "holds no token", "openssl"},
		{"pacs", "tokens:1: a name without a token", "NAME TOKEN"},
		{"\npacs short", "tokens:2: the token of pacs has fewer than 16 bytes", "openssl"},
		{"pacs sha256:00", "tokens:1: the token of pacs is no SHA-256", "sha256sum"},
		{"pacs sha256:" + strings.Repeat("0", 66), "is no SHA-256", ""},
		{"pacs " + tokenA + " speed=3", "unknown limit speed of pacs", ""},
		{"pacs " + tokenA + " rate=NaN", "limit rate of pacs is no number", ""},
		{"pacs " + tokenA + " requests=-1", "limit requests of pacs is no number", ""},
		{"a " + tokenA + "\na " + tokenB, "tokens:2: a second token of the name a", ""},
		{"a " + tokenA + "\nb " + tokenA, "tokens:2: b has the token of a", ""},
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		replace(t, path, c.content)
		_, err := OpenTokens(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%q: error %v, hint %q", c.content, err, hint.Of(err))
		} else if strings.Contains(err.Error(), tokenA) || strings.Contains(err.Error(), "short") {
			t.Errorf("%q: the error holds the token: %v", c.content, err)
		}
	}
}

// Time is synctest's.
func TestTokens_LimitsOfEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, path := tokensOf(t, "one "+tokenA+" requests=1", "slow "+tokenB+" rate=2")
		f, proceed := blocking()
		s := readyServer(t, f, ServerOptions{Tokens: tokens})
		object := string(servetest.Object{}.Bytes(t))
		classify := func(token string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodPost, pathClassify, strings.NewReader(object))
			r.Header.Set("Authorization", "bearer "+token)
			r.Header.Set("Content-Type", typeDICOM)
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			return w
		}
		first := make(chan *httptest.ResponseRecorder, 1)
		go func() { first <- classify(tokenA) }()
		synctest.Wait()
		replace(t, path, "one "+tokenA+" requests=1\nslow "+tokenB+" rate=2\nthird 0123456789abcdef0") // what is counted outlasts it
		w := asked(s, "GET", pathModels, tokenA)
		if p := problemOf(t, w); p.Status != 429 || p.Code != "caller_limit" || w.Header().Get("Retry-After") == "" {
			t.Errorf("%+v", p)
		}
		var statuses []int
		for range 3 {
			statuses = append(statuses, asked(s, "GET", pathModels, tokenB).Code)
		}
		<-time.After(500 * time.Millisecond)
		statuses = append(statuses, asked(s, "GET", pathModels, tokenB).Code, asked(s, "GET", pathModels, tokenB).Code)
		if got := fmt.Sprint(statuses); got != "[200 200 429 200 429]" {
			t.Errorf("two a second: %s", got)
		}
		close(proceed)
		resultOf(t, <-first)
		if w := asked(s, "GET", pathModels, tokenA); w.Code != 200 {
			t.Errorf("after the first was answered: status %d", w.Code)
		}
	})
}
