package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write makes a file and its folder.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// unpack runs the script and returns what it says.
func unpack(t *testing.T, pieces, to string) (string, error) {
	t.Helper()
	out, err := exec.Command("sh", filepath.Join(pieces, "unpack"), to).CombinedOutput()
	return string(out), err
}

func TestPieces_ComeTogetherInAnyOrderAndDamageIsFound(t *testing.T) {
	dir := t.TempDir()
	stage, pieces, to := filepath.Join(dir, "stage"), filepath.Join(dir, "pieces"), filepath.Join(dir, "to")
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	write(t, filepath.Join(stage, "core", "bin", "program"), "#!/bin/sh\necho runs\n")
	write(t, filepath.Join(stage, "ort", "runtime", "lib.so"), string(noise))
	if err := os.MkdirAll(pieces, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("../..") // cut finds the script from the repository's root
	if err := cut(stage, pieces, []string{"core", "ort"}, 100); err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(filepath.Join(pieces, "ort.tar.gz.*"))
	if err != nil || len(all) < 2 {
		t.Fatalf("%d pieces, %v: want several", len(all), err)
	}
	for _, path := range all {
		if info, err := os.Stat(path); err != nil || info.Size() > 100 {
			t.Errorf("%s is too large: %v", path, err)
		}
	}
	last := all[len(all)-1]
	late := filepath.Join(dir, "late")
	if err := os.Rename(last, late); err != nil {
		t.Fatal(err)
	}
	said, err := unpack(t, pieces, to)
	if err != nil || !strings.Contains(said, "core: unpacked") || !strings.Contains(said, "ort: waits for "+filepath.Base(last)) {
		t.Errorf("one piece away: %v\n%s", err, said)
	}
	if out, err := exec.Command(filepath.Join(to, "bin", "program")).Output(); err != nil || string(out) != "runs\n" {
		t.Errorf("the program does not run: %v %s", err, out)
	}
	good, err := os.ReadFile(late)
	if err != nil {
		t.Fatal(err)
	}
	write(t, last, strings.Repeat("x", len(good)))
	if said, err := unpack(t, pieces, to); err == nil || !strings.Contains(said, "a piece of ort is damaged") {
		t.Errorf("a damaged piece: %v\n%s", err, said)
	}
	write(t, last, string(good))
	if said, err := unpack(t, pieces, to); err != nil || !strings.Contains(said, "ort: unpacked") {
		t.Errorf("all there: %v\n%s", err, said)
	}
	if got, err := os.ReadFile(filepath.Join(to, "runtime", "lib.so")); err != nil || !bytes.Equal(got, noise) {
		t.Errorf("the file came back changed, %v", err)
	}
}

func TestPortable_RefusesWhatAnotherMachineMayLack(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, code, want string
		flags            []string
	}{
		{"the C library", "int main(void) { return 0; }", "", nil},
		{"another library", "double sin(double); int main(int n, char **v) { return sin(n) > 2; }", "needs libm.so.6", []string{"-Wl,--no-as-needed", "-lm"}},
	} {
		command := append(strings.Fields(string(cc)), "-o", program, "-x", "c", "-")
		cmd := exec.Command(command[0], append(command[1:], c.flags...)...)
		cmd.Stdin = strings.NewReader(c.code)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		err := portable(program)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// What fails is recorded with its reason, and the rest goes on; a later call keeps the sections that it does not run again.
func TestSection_FailuresAreRecordedAndTheRestGoesOn(t *testing.T) {
	out := filepath.Join(t.TempDir(), "gpu.json")
	sh := func(name, script string) planned {
		return planned{name: name, command: []string{"sh", "-c", script}, limit: time.Minute}
	}
	slow := sh("slow", "exec sleep 100")
	slow.limit = time.Nanosecond
	pair := sh("pair", `echo '{"n":1}'`)
	beside := sh("beside", `echo '{"n":2}'`)
	pair.with = &beside
	r := &runner{device: "cpu", env: os.Environ(), deadline: time.Now().Add(time.Hour)}
	res := &result{SchemaVersion: 1}
	err := r.section(t.Context(), section{name: "one", cases: []planned{
		sh("fails", `echo 'the reason' >&2; exit 3`), slow, sh("silent", ""), sh("wrong, with figures", `echo '{"n":3}'; echo off >&2; exit 1`), pair,
		{name: "no program", command: []string{filepath.Join(t.TempDir(), "none")}, limit: time.Minute},
		sh("works", `echo noise; echo '{"n":4}'`),
	}}, res, out)
	if err != nil {
		t.Fatal(err)
	}
	r.deadline = time.Time{}
	if err := r.section(t.Context(), section{name: "two", cases: []planned{sh("late", "exit 1")}}, res, out); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var got result
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range got.Sections {
		for _, c := range s.Cases {
			var values bytes.Buffer
			if c.Values != nil {
				if err := json.Compact(&values, c.Values); err != nil {
					t.Fatal(err)
				}
			}
			line := s.Name + "/" + c.Name + " " + values.String() + " " + c.Error
			if c.With != nil {
				line += "with " + c.With.Name
			}
			lines = append(lines, line)
		}
	}
	want := []string{
		"one/fails  exit status 3: the reason", "one/slow  it took longer than 1ns: ", "one/silent  it left no result: ",
		`one/wrong, with figures {"n":3} exit status 1: off`, `one/pair {"n":1} with beside`, "", `one/works {"n":4} `, "two/late  not run: the time is used up",
	}
	if len(lines) == len(want) {
		if !strings.Contains(lines[5], "no such file") {
			t.Errorf("a program that is not there: %s", lines[5])
		}
		want[5] = lines[5]
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("cases (-want +got)\n%s", diff)
	}
}

func TestCompare_LossesOutsideTheToleranceAreAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), referenceFile)
	write(t, file, `{"nano/float32":[1,2],"nano/bfloat16":[1]}`)
	for _, c := range []struct {
		losses  []float64
		compute string
		want    string
	}{
		{[]float64{1, 2.001}, "float32", ""},
		{[]float64{1, 2.1}, "float32", "loss 2 is 2.1"},
		{[]float64{1, 2}, "bfloat16", "has 1 losses"},
	} {
		v := trainValues{trainParams: trainParams{Preset: "nano", Compute: c.compute}, Losses: c.losses}
		err := v.compare(file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v in %s: %v, want %q", c.losses, c.compute, err, c.want)
		}
	}
}

// Every case of the plan names a kind that there is, in parameters that it reads.
func TestPlan_NamesAreTold(t *testing.T) {
	for device, s := range map[string]sizes{"cuda": onGPU, "cpu": onCPU} {
		presets := []string{"nano"}
		if device == "cuda" {
			presets = []string{"base", "tiny", "small"}
		}
		for _, sec := range plan(device, s, presets) {
			seen := map[string]bool{}
			for _, c := range sec.cases {
				if seen[c.name] || c.name == "" || c.limit == 0 {
					t.Errorf("%s: case %q is there twice, or without limit", sec.name, c.name)
				}
				seen[c.name] = true
				if c.command[0] != "$SELF" {
					continue
				}
				params := map[string]any{}
				if err := json.Unmarshal([]byte(c.command[3]), &params); err != nil || params["device"] != device {
					t.Errorf("%s, %s: parameters %s", sec.name, c.name, c.command[3])
				}
			}
			if len(sec.cases) == 0 {
				t.Errorf("section %s is empty", sec.name)
			}
		}
	}
}
