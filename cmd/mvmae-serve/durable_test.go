package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/serve"
	"github.com/mvmae/mvmae/serve/servetest"
)

// awaitState reads server-sent events until a study is in a state.
func awaitState(t *testing.T, stream io.Reader, state string) {
	t.Helper()
	for lines := bufio.NewScanner(stream); lines.Scan(); {
		var e serve.Event
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(data), &e) == nil && e.State == state {
			return
		}
	}
	t.Fatalf("no event says %s", state)
}

// TestQueue_DeadLetter has a study die of an object that the disk no longer gives, and be tried again.
func TestQueue_DeadLetter(t *testing.T) {
	model, data := modelFile(t), t.TempDir()
	url, terminate := up(t, "--model", model, "--data", data, "--attempts", "1", "--quiet", "1h", "--complete-within", "1h")
	send := func(query string, o servetest.Object) {
		t.Helper()
		response, err := http.Post(url+"/v1/studies"+query, "application/dicom", strings.NewReader(string(o.Bytes(t))))
		if err != nil || response.StatusCode != 202 {
			t.Fatalf("%v, %v", response, err)
		}
		response.Body.Close()
	}
	send("?complete=false", servetest.Object{Study: "1.2", SOP: "1.2.1"})
	objects, err := filepath.Glob(filepath.Join(data, "studies", "*", "*", "*.dcm"))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%q, %v", objects, err)
	}
	sound, err := os.ReadFile(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	// A folder in place of the file: it is there, and cannot be read.
	if err := os.Remove(objects[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(objects[0], 0o755); err != nil {
		t.Fatal(err)
	}
	events, err := http.Get(url + "/v1/events?study=1.2")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	send("", servetest.Object{Study: "1.2", SOP: "1.2.2"})
	awaitState(t, events.Body, "dead")
	code, stdout, stderr := command(t, "queue", "list", "--server", url)
	if code != 0 || !strings.Contains(stdout, "1.2  dead  1 tries") || !strings.Contains(stdout, "read object") {
		t.Errorf("list: exit code %d: %s%s", code, stdout, stderr)
	}
	if err := os.Remove(objects[0]); err != nil {
		t.Fatal(err)
	}
	writeFile(t, objects[0], sound)
	if code, stdout, stderr := command(t, "queue", "retry", "--all", "--server", url); code != 0 || !strings.HasPrefix(stdout, "1.2  ") {
		t.Errorf("retry: exit code %d: %s%s", code, stdout, stderr)
	}
	awaitState(t, events.Body, "done")
	if code, _, stderr := command(t, "queue", "discard", "1.2", "--server", url); code != 1 || !strings.Contains(stderr, "no dead letter") {
		t.Errorf("discard: exit code %d: %s", code, stderr)
	}
	if code, stdout, _ := command(t, "queue", "list", "--json", "--server", url); code != 0 || !strings.Contains(stdout, `"studies": []`) {
		t.Errorf("list: exit code %d: %s", code, stdout)
	}
	if code, log := terminate(); code != 0 || strings.Contains(log, "1.2.1") {
		t.Errorf("exit code %d: %s", code, log)
	}
}
