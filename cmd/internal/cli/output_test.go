package cli

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestResult_RefusesWhatIsNoDocument(t *testing.T) {
	for name, doc := range map[string]any{"list": []int{1}, "null": nil, "NaN": map[string]float64{"auroc": math.NaN()}} {
		var stdout bytes.Buffer
		out := &Output{JSON: true, Stdout: &stdout}
		if err := out.Result(doc); err == nil || stdout.Len() > 0 {
			t.Errorf("%s: error %v, written %q", name, err, stdout.String())
		}
	}
}

func TestResult_EmptyDocumentHasItsVersion(t *testing.T) {
	var stdout bytes.Buffer
	if err := (&Output{JSON: true, Stdout: &stdout}).Result(struct{}{}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"schema_version\": 1\n}\n"; stdout.String() != want {
		t.Errorf("got %q, want %q", stdout.String(), want)
	}
}

func TestProgress_PlainLinesEveryFewSeconds(t *testing.T) {
	var stderr bytes.Buffer
	at := time.Unix(0, 0)
	out := &Output{Stderr: &stderr, now: func() time.Time { return at }}
	p := out.Progress("pretrain", 100)
	p.Resume(40)
	at = at.Add(15 * time.Second)
	p.Add(2) // compiles for 15 s: not part of the rate
	for range 14 {
		at = at.Add(time.Second)
		p.Add(2)
		p.Note("loss 0.5")
	}
	p.Done()
	p.Done()
	want := `pretrain: 42/100 42%
pretrain: 52/100 52%, 2/s, 24s left, loss 0.5
pretrain: 62/100 62%, 2/s, 19s left, loss 0.5
pretrain: 70/100 70%, 2/s, took 29s, loss 0.5
`
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("lines (-want +got)\n%s", diff)
	}
}

func TestProgress_RateFollowsTheLastHalfMinute(t *testing.T) {
	at := time.Unix(0, 0)
	p := (&Output{Stderr: &bytes.Buffer{}, now: func() time.Time { return at }}).Progress("pack", 0)
	for i := range 120 {
		at = at.Add(time.Second)
		if i < 60 {
			p.Add(1)
		} else {
			p.Add(200)
		}
	}
	if got, want := p.status(), "12060, 200/s"; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
}

func TestLogger_FollowsTheFlags(t *testing.T) {
	var stderr bytes.Buffer
	(&Output{Stderr: &stderr}).logger().Debug("hidden")
	if stderr.Len() != 0 {
		t.Errorf("without -v: %q", stderr.String())
	}
	for args, want := range map[string]string{
		"train -v":                          "msg=shown",
		"train -v --json":                   `"msg":"shown"`,
		"train -v --log-format json":        `"msg":"shown"`,
		"train -v --json --log-format text": "msg=shown",
	} {
		stderr.Reset()
		out := &Output{Stdout: io.Discard, Stderr: &stderr}
		run(t.Context(), "prog", "A program.", &program{}, nil, strings.Fields(args), out)
		if out.logger().Debug("shown"); !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: %q", args, stderr.String())
		}
	}
}
