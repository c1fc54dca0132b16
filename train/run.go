package train

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// The files of a run folder, beside those that model names.
const (
	configFile     = "config.toml"
	runFile        = "run.json"
	metricsFile    = "metrics.jsonl"
	tokenizerFile  = "tokenizer.json" // of a run of method mvmae-v2t, as the next two
	TextFile       = "text.json"      // a Description
	samplesFile    = "samples.md"
	lastCheckpoint = "checkpoints/last.safetensors"

	predictionsFile = "predictions.json" // of a classifier
)

// runVersion is the version of run folders that this program writes.
const runVersion = 1

// Run is a run folder: the resolved config, who made it of what, metrics line by line, checkpoints.
type Run struct {
	Dir    string
	Info   RunInfo
	Config Config
}

// RunInfo says where a run came from.
type RunInfo struct {
	FormatVersion int       `json:"format_version"`
	ID            string    `json:"run_id"`
	Kind          string    `json:"kind"` // pretrain, probe, finetune or supervised
	Created       time.Time `json:"created"`
	Data          string    `json:"data"`          // the pack's folder
	DataDigest    string    `json:"data_sha256"`   // data.Pack.Digest: a run is resumed on the same data only
	Preprocessing string    `json:"preprocessing"` // the pack's recipe
	Init          string    `json:"init"`          // run folder or file whose encoder the run begins with; empty for random weights: see BeginWith
	// Spec is the network of Init; nil for that of the config.
	Spec         *model.Spec        `json:"spec,omitempty"`
	Weights      *Weights           `json:"weights,omitempty"` // of Init, if that is a file
	Encoder      *model.EncoderFile `json:"encoder,omitempty"` // of a probe on an ONNX encoder
	Device       string             `json:"device"`
	PluginDigest string             `json:"plugin_sha256"`
}

// CreateRun makes a run folder. A folder that holds anything is refused.
func CreateRun(dir string, info RunInfo, cfg Config) (*Run, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, hint.Wrap(fmt.Errorf("create run: %s is not empty", dir), `go on with "mvmae-train resume %s", or name another folder with --out`, dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create run: %w", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "checkpoints"), 0o755); err != nil { // of two runs that begin at once, one gets the folder
		return nil, fmt.Errorf("create run: %w", err)
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	info.FormatVersion, info.ID, info.Created = runVersion, hex.EncodeToString(id[:]), time.Now().UTC().Truncate(time.Second)
	r := &Run{Dir: dir, Info: info, Config: cfg}
	doc, err := toml.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.write(configFile, doc); err != nil {
		return nil, err
	}
	return r, r.WriteJSON(runFile, info)
}

// OpenRun reads a run folder.
func OpenRun(dir string) (*Run, error) {
	doc, err := os.ReadFile(filepath.Join(dir, runFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, hint.Wrap(fmt.Errorf("open run: no %s in %s", runFile, dir), `name a folder that "mvmae-train pretrain" or "probe" wrote`)
	}
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	r := &Run{Dir: dir}
	if err := json.Unmarshal(doc, &r.Info); err != nil {
		return nil, fmt.Errorf("open run: %s: %w", filepath.Join(dir, runFile), err)
	}
	if r.Info.FormatVersion != runVersion {
		return nil, hint.Wrap(fmt.Errorf("open run: %s has format version %d, this program reads %d", dir, r.Info.FormatVersion, runVersion),
			"use the release that wrote it")
	}
	r.Config, err = LoadConfig(filepath.Join(dir, configFile), nil)
	return r, err
}

// OpenRuns reads a run folder, or those of the several runs, which differ by their seed alone, that a folder holds.
func OpenRuns(dir string) (runs []*Run, several bool, err error) {
	run, err := OpenRun(dir)
	inside := SeedFolders(dir)
	if err == nil || len(inside) == 0 {
		return []*Run{run}, false, err
	}
	for _, dir := range inside {
		run, err := OpenRun(dir)
		if err != nil {
			return nil, true, err
		}
		runs = append(runs, run)
	}
	slices.SortFunc(runs, func(a, b *Run) int { return cmp.Compare(a.Config.Seed, b.Config.Seed) })
	return runs, true, nil
}

// SeedFolders are the run folders that a folder of several runs holds, one for each seed.
func SeedFolders(dir string) []string {
	inside, err := filepath.Glob(filepath.Join(dir, "seed-*"))
	if err != nil { // a name that is a wrong pattern is that of no such folder
		return nil
	}
	return inside
}

// fits refuses a run's encoder for a pack that another recipe of preprocessing made, or whose held-out studies it was trained
// on: the pack it was trained on, with other splits, may hold them.
func (r *Run) fits(pack *data.Pack) error {
	if got := pack.Recipe.String(); got != r.Info.Preprocessing {
		return hint.Wrap(fmt.Errorf("the pack was made with recipe %s, run %s was trained on %s", got, r.Dir, r.Info.Preprocessing),
			"pack again with --recipe %s", r.Info.Preprocessing)
	}
	if pack.Digest() == r.Info.DataDigest {
		return nil
	}
	other, err := data.Open(r.Info.Data)
	if err != nil {
		return hint.Wrap(fmt.Errorf("run %s was trained on another pack, which cannot be compared with this one: %w", r.Dir, err),
			"put the pack it was trained on back to %s: without it nobody can tell whether this pack's test images were trained on", r.Info.Data)
	}
	defer other.Close()
	if n := pack.HeldOutIn(other); n > 0 {
		return hint.Wrap(fmt.Errorf("run %s was trained on %d images that are held out in this pack", r.Dir, n),
			"split both packs alike: the same index options, or one pack")
	}
	return nil
}

// encoder says where a classifier's encoder came from.
func (r *Run) encoder() (model.Encoder, error) {
	switch {
	case r.Info.Encoder != nil:
		return model.Encoder{Method: "onnx", SHA256: r.Info.Encoder.SHA256}, nil
	case r.Info.Weights != nil:
		return model.Encoder{Method: r.Info.Weights.Layout, SHA256: r.Info.Weights.SHA256}, nil
	case r.Info.Init == "":
		return model.Encoder{Method: "random"}, nil
	}
	from, err := OpenRun(r.Info.Init)
	if err != nil {
		return model.Encoder{}, err
	}
	last, err := from.loadCheckpoint()
	return model.Encoder{Method: from.Config.Method, RunID: from.Info.ID, Step: last.step, DataSHA256: from.Info.DataDigest}, err
}

// begin checks that a pack is the one the run began with, and whole, and keeps other processes out of the folder until end
// is called. What an earlier attempt left of a model goes: a folder with model.RunMetadata holds a whole one.
func (r *Run) begin(pack *data.Pack) (end func(), err error) {
	if pack.Digest() != r.Info.DataDigest {
		return nil, hint.Wrap(fmt.Errorf("pack %s is not what it was when the run began", r.Info.Data),
			"a run goes on with its own data; begin another run for other data")
	}
	if err := pack.Verify(); err != nil {
		return nil, err
	}
	f, err := os.Open(r.path(runFile))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, hint.Wrap(fmt.Errorf("run %s is in use by another process: %w", r.Dir, err), "wait for it, or stop it")
	}
	if err := os.Remove(r.path(model.RunMetadata)); err != nil && !errors.Is(err, os.ErrNotExist) {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// Finished reports whether the folder holds a whole classifier.
func (r *Run) Finished() bool {
	_, err := os.Stat(r.path(model.RunMetadata))
	return err == nil
}

func (r *Run) path(name string) string { return filepath.Join(r.Dir, filepath.FromSlash(name)) }

func (r *Run) write(name string, doc []byte) error {
	return model.WriteFileAtomic(r.path(name), func(w io.Writer) error {
		_, err := w.Write(doc)
		return err
	})
}

// WriteJSON writes a document into the folder, whole or not at all.
func (r *Run) WriteJSON(name string, v any) error {
	doc, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", r.path(name), err)
	}
	return r.write(name, append(doc, '\n'))
}

// checkpoint is a state that a run can go on from.
type checkpoint struct {
	step    int     // steps done
	scored  int     // step after which the last score was taken; 0 for none
	score   float64 // best score so far, where there is one
	tensors model.Tensors
}

func (r *Run) saveCheckpoint(c checkpoint) error {
	return model.WriteSafetensors(r.path(lastCheckpoint), c.tensors, map[string]string{
		"format_version": strconv.Itoa(runVersion), "run_id": r.Info.ID, "step": strconv.Itoa(c.step),
		"scored": strconv.Itoa(c.scored), "score": strconv.FormatFloat(c.score, 'g', -1, 64),
	})
}

// sweep removes what a killed process left half written.
func (r *Run) sweep() error {
	var errs []error
	for _, name := range []string{metricsFile, lastCheckpoint, model.RunCheckpoint} {
		dir, base := filepath.Split(r.path(name))
		left, err := filepath.Glob(dir + "." + base + ".tmp*")
		errs = append(errs, err)
		for _, path := range left {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// CheckpointTime is when the last checkpoint was written; the zero time before the first.
func (r *Run) CheckpointTime() (time.Time, error) {
	info, err := os.Stat(r.path(lastCheckpoint))
	if errors.Is(err, os.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// loadCheckpoint reads the last checkpoint; a run that has left none gives step 0 and no tensors.
func (r *Run) loadCheckpoint() (checkpoint, error) {
	tensors, meta, err := model.ReadSafetensors(r.path(lastCheckpoint))
	if errors.Is(err, os.ErrNotExist) {
		return checkpoint{}, nil
	}
	if err != nil {
		return checkpoint{}, err
	}
	if id := meta["run_id"]; id != "" && id != r.Info.ID {
		return checkpoint{}, fmt.Errorf("read %s: it is of run %s, not of %s", r.path(lastCheckpoint), id, r.Info.ID)
	}
	if v := meta["format_version"]; v != strconv.Itoa(runVersion) {
		return checkpoint{}, fmt.Errorf("read %s: checkpoint of format version %q, this program reads %d", r.path(lastCheckpoint), v, runVersion)
	}
	step, err := strconv.Atoi(meta["step"])
	if err != nil || step < 0 {
		return checkpoint{}, fmt.Errorf("read %s: %w: step is %q", r.path(lastCheckpoint), model.ErrCorrupt, meta["step"])
	}
	c := checkpoint{step: step, tensors: tensors}
	if c.scored, err = strconv.Atoi(cmp.Or(meta["scored"], "0")); err != nil || c.scored > step {
		return checkpoint{}, fmt.Errorf("read %s: %w: scored is %q at step %d", r.path(lastCheckpoint), model.ErrCorrupt, meta["scored"], step)
	}
	if c.score, err = strconv.ParseFloat(cmp.Or(meta["score"], "-Inf"), 64); err != nil {
		return checkpoint{}, fmt.Errorf("read %s: %w: score is %q", r.path(lastCheckpoint), model.ErrCorrupt, meta["score"])
	}
	return c, nil
}

// metricsLog appends lines to metrics.jsonl.
type metricsLog struct {
	f *os.File
	w *bufio.Writer
}

// openMetrics opens the log and drops the lines of steps after done: they were written after the checkpoint that the run
// goes on from, and will be written again.
func (r *Run) openMetrics(done int) (*metricsLog, error) {
	path := r.path(metricsFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var keep []byte
	for line := range bytes.Lines(old) {
		var m struct{ Step int }
		if json.Unmarshal(line, &m) == nil && m.Step <= done {
			keep = append(keep, line...)
		}
	}
	if err := r.write(metricsFile, keep); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &metricsLog{f, bufio.NewWriter(f)}, nil
}

func (l *metricsLog) append(v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := l.w.Write(append(doc, '\n')); err != nil {
		return err
	}
	return l.w.Flush()
}

func (l *metricsLog) close() error { return l.f.Close() }
