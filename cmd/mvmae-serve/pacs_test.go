package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/test/peers/dimse"
)

func needPeers(t *testing.T) {
	t.Helper()
	if err := dimse.Find(); err != nil {
		codecprog.Skip(t, fmt.Sprintf("%v: %s", err, hint.Of(err)))
	}
}

// blocks are the fenced blocks of a section of a guide, with their language.
func blocks(t *testing.T, path, section string) (found [][2]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", path, section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for _, m := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(rest, -1) {
		found = append(found, [2]string{m[1], m[2]})
	}
	return found
}

// guide runs a guide's commands in a folder of their own, with free ports in place of the guide's.
type guide struct {
	t     *testing.T
	dir   string
	ports *strings.Replacer
	http  string

	events *bufio.Scanner // the server's
}

func newGuide(t *testing.T) *guide {
	t.Helper()
	var pairs []string
	free := map[string]string{}
	for _, port := range []string{"8080", "11112", "4242", "8042"} {
		n, err := dimse.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		free[port] = strconv.Itoa(n)
		pairs = append(pairs, port, free[port])
	}
	return &guide{t: t, dir: t.TempDir(), ports: strings.NewReplacer(pairs...), http: "127.0.0.1:" + free["8080"]}
}

func (g *guide) write(name, text string) {
	writeFile(g.t, filepath.Join(g.dir, name), []byte(g.ports.Replace(text)))
}

// run runs one command line as it is written.
func (g *guide) run(line string) string {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "sh", "-c", g.ports.Replace(line))
	cmd.Dir = g.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// start starts a server and waits until its output has a line with ready in it.
func (g *guide) start(line, ready string) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+g.ports.Replace(line))
	cmd.Dir = g.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out := &awaited{ready: []byte(ready), seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	g.t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-out.seen:
	case <-ended:
		g.t.Fatalf("%s ended:\n%s", line, out.text.Bytes())
	}
}

// awaited is what a process writes; one goroutine of package exec writes it.
type awaited struct {
	text  bytes.Buffer
	ready []byte
	seen  chan struct{}
}

func (a *awaited) Write(p []byte) (int, error) {
	n, err := a.text.Write(p)
	if a.ready != nil && bytes.Contains(a.text.Bytes(), a.ready) {
		a.ready = nil
		close(a.seen)
	}
	return n, err
}

// The guide's commands, as they stand there, bring a study from Orthanc to its findings.
func TestGuide_OrthancInTenMinutes(t *testing.T) {
	needPeers(t)
	g := newGuide(t)
	if err := os.Symlink(modelFile(t), filepath.Join(g.dir, "model.onnx")); err != nil {
		t.Fatal(err)
	}
	for i, o := range servetest.Study("1.2.345", 3) {
		g.write([]string{"frontal.dcm", "lateral.dcm"}[i], "")
		writeFile(t, filepath.Join(g.dir, []string{"frontal.dcm", "lateral.dcm"}[i]), o.Bytes(t))
	}
	ran := 0
	for _, b := range blocks(t, "../../docs/pacs.md", "Orthanc in ten minutes") {
		switch language, text := b[0], b[1]; language {
		case "json":
			g.write("orthanc.json", text)
		case "lua":
			g.write("forward.lua", text)
		case "sh":
			for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
				ran++
				switch {
				case strings.HasPrefix(line, "mvmae-serve up"):
					g.start(line+" --listen 127.0.0.1:8080", "http://")
					g.listen()
				case strings.HasPrefix(line, "Orthanc "):
					g.start(line, "Orthanc has started")
				case strings.HasSuffix(line, "/v1/studies"):
					g.await("1.2.345")
					if !strings.Contains(g.run(line), `"study_instance_uid":"1.2.345"`) {
						t.Errorf("%s does not list the study", line)
					}
				default:
					g.run(line)
				}
			}
		default:
			t.Errorf("a block of %q, which nobody runs", language)
		}
	}
	if ran != 8 {
		t.Errorf("%d commands were run, the guide has 8", ran)
	}
}

// listen hears of all that happens to studies from now on.
func (g *guide) listen() {
	g.t.Helper()
	rsp, err := http.Get("http://" + g.http + "/v1/events")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { rsp.Body.Close() })
	g.events = bufio.NewScanner(rsp.Body)
}

// await waits until a study is done and has a result of both its views.
func (g *guide) await(uid string) {
	g.t.Helper()
	for g.events.Scan() {
		data, ok := strings.CutPrefix(g.events.Text(), "data:")
		var event serve.Event
		if !ok || json.Unmarshal([]byte(data), &event) != nil || event.StudyInstanceUID != uid || event.State != "done" {
			continue
		}
		var status struct {
			Result struct {
				Views []any `json:"views"`
			} `json:"result"`
		}
		if err := json.Unmarshal([]byte(g.run("curl -sSf http://127.0.0.1:8080/v1/studies/"+uid)), &status); err != nil {
			g.t.Fatal(err)
		}
		if len(status.Result.Views) == 2 {
			return
		}
	}
	g.t.Fatalf("no more events: %v", g.events.Err())
}

// What has been sent in part is completed from the PACS, before anybody is told of findings.
func TestUp_FetchesWhatIsMissing(t *testing.T) {
	needPeers(t)
	g := newGuide(t)
	model := modelFile(t)
	objects := servetest.Study("1.2.345", 3)
	g.write("orthanc.json", `{"DicomAet": "ORTHANC", "DicomPort": 4242, "HttpPort": 8042, "DicomModalities": {"mvmae": ["MVMAE", "127.0.0.1", 11112]}}`)
	g.start("Orthanc orthanc.json", "Orthanc has started")
	for i, o := range objects {
		writeFile(t, filepath.Join(g.dir, fmt.Sprint(i)), o.Bytes(t))
		g.run(fmt.Sprintf("curl -sSf -X POST http://127.0.0.1:8042/instances --data-binary @%d", i))
	}
	g.start("mvmae-serve up --model "+model+" --data studies --listen 127.0.0.1:8080 --dicom 127.0.0.1:11112 --peer STORESCU"+
		" --priors ORTHANC@127.0.0.1:4242 --quiet 200ms", "http://")
	g.listen()
	g.run("storescu -aec MVMAE 127.0.0.1 11112 0")
	g.await("1.2.345")
	var status struct {
		Outcomes []any `json:"outcomes"`
	}
	if err := json.Unmarshal([]byte(g.run("curl -sSf http://127.0.0.1:8080/v1/studies/1.2.345")), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Outcomes) != 1 {
		t.Errorf("%d outcomes: findings of half a study were given", len(status.Outcomes))
	}
}

func TestDoctor_PACS(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	code, stdout, _ := command(t, "doctor", "--pacs", "PACS@"+address)
	for _, want := range []string{"missing  PACS", "connection refused", "nothing answers at " + address} {
		if code == 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, and no %q in\n%s", code, want, stdout)
		}
	}
	_, terminate := up(t, "--model", modelFile(t), "--data", t.TempDir(), "--dicom", address)
	code, stdout, _ = command(t, "doctor", "--pacs", "MVMAE@"+address, "--ae-title", "ANYBODY")
	if !regexp.MustCompile(`found    PACS          MVMAE@\S+ answered ANYBODY in \S+, and offers C-ECHO, storage commitment\n`).MatchString(stdout) {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	code, stdout, _ = command(t, "doctor", "--pacs", "OTHER@"+address)
	if code == 0 || !strings.Contains(stdout, "OTHER is not the AE title that listens there") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if code, log := terminate(); code != 0 {
		t.Errorf("up: exit code %d\n%s", code, log)
	}
}

func TestUp_RefusesDICOMFlagsThatContradict(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "x.pem"), nil)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--dicom", "127.0.0.1:0"}, "--dicom is of no use without --data"},
		{[]string{"--data", "d", "--peer", "X"}, "--peer and --priors are of no use without --dicom"},
		{[]string{"--data", "d", "--dicom", "0.0.0.0:0"}, "is open to other machines, and nobody is listed"},
		{[]string{"--data", "d", "--dicom", "11112"}, "--dicom 11112 is not HOST:PORT"},
		{[]string{"--data", "d", "--dicom", "127.0.0.1:0", "--ae-title", "FAR-TOO-LONG-A-TITLE"}, "has more than 16 characters"},
		{[]string{"--data", "d", "--dicom", "127.0.0.1:0", "--peer", "A@b"}, `"b" is not HOST:PORT`},
		{[]string{"--data", "d", "--dicom", "127.0.0.1:0", "--priors", "PACS"}, "--priors has no address"},
		{[]string{"--data", "d", "--dicom", "127.0.0.1:0", "--dicom-cert", file}, "--dicom-cert and --dicom-key: one is missing"},
		{[]string{"--data", "d", "--dicom", "127.0.0.1:0", "--dicom-client-ca", file}, "--dicom-client-ca is of no use without TLS"},
		{[]string{"--data", "d", "--dicom", "127.0.0.1:0", "--max-associations", "0"}, "--max-associations is too small"},
	} {
		code, _, stderr := command(t, append([]string{"up", "--model", "m.onnx", "--listen", "127.0.0.1:0"}, c.args...)...)
		if code != cli.ExitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit code %d, %q", c.args, code, stderr)
		}
	}
}
