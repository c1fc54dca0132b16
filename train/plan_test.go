package train

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/internal/hint"
)

// limited is a device with a limit of its own on the same backend.
func limited(t *testing.T, bytes int64) *Device {
	dev := *device(t)
	dev.MemoryBytes = bytes
	return &dev
}

func TestPretrain_MemoryIsToldAndABatchThatFitsIsNamed(t *testing.T) {
	pack := makePack(t, 40)
	cfg := testConfig()
	step := func(views, accumulate int, limit int64) (*loop, error) {
		cfg.BatchViews, cfg.Accumulate = views, accumulate
		l, err := newPretraining(limited(t, limit), newRun(t, "pretrain", "", pack, cfg), pack)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]hostBatch, accumulate)
		for i := range b {
			b[i] = l.loader.batch(i, l.task)
		}
		_, _, err = l.step(b)
		return l, err
	}
	l, err := step(24, 1, 1000)
	var none *MemoryError
	if !errors.As(err, &none) || none.Views != 0 || none.Free != 1000 || !strings.Contains(hint.Of(err), "smaller preset") {
		t.Fatalf("1000 bytes are free: error %v, hint %q", err, hint.Of(err))
	}
	// The images alone: 24 stored pictures, and one float of each pixel of the network's input.
	if least := int64(24 * (256*256 + 4*32*32)); none.Plan.Total() < least || none.Plan.Temporary <= 0 {
		t.Errorf("a step of 24 views takes %+v, its images alone %d bytes", none.Plan, least)
	}

	limit := none.Plan.Total() * 2 / 3
	full := l.tooLarge(limit, nil)
	if want := fmt.Sprintf("--set batch_views=%d --set accumulate=%d", full.Views, full.Accumulate); !strings.Contains(full.Hint(), want) ||
		full.Views < 3 || full.Views*full.Accumulate < 24 {
		t.Fatalf("error %q, hint %q", full, full.Hint())
	}
	if l, err := step(full.Views, full.Accumulate, limit); err != nil {
		t.Errorf("the batch that it named takes %d of %d bytes: %v", l.plan.Total(), limit, err)
	}
}

// A device that says so itself when it has no more: half of what was too much is tried.
func TestOutOfMemory_OfTheDevice(t *testing.T) {
	pack := makePack(t, 20)
	cfg := testConfig()
	spec, err := cfg.Spec()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(newRun(t, "finetune", "", pack, cfg), pack, spec, nil, 1, cfg.Finetune.Optim, 12, pack.StudiesOf(0))
	if err != nil {
		t.Fatal(err)
	}
	l.plan = Plan{Inputs: 2 << 30, Temporary: 10 << 30}
	cause := errors.New("RESOURCE_EXHAUSTED: out of memory while trying to allocate 10737418240 bytes")
	err = l.outOfMemory(fmt.Errorf("execute: %w", cause))
	var full *MemoryError
	if !errors.As(err, &full) || !errors.Is(err, cause) || !strings.Contains(hint.Of(err), "finetune.batch_views=6 --set accumulate=2") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
	if other := errors.New("INVALID_ARGUMENT"); l.outOfMemory(other) != other {
		t.Error("another error was taken for a lack of memory")
	}
}

func TestGroupMemory_ReadsTheLimit(t *testing.T) {
	dir := t.TempDir()
	if free := groupMemory(dir); free < 1<<62 {
		t.Errorf("no control group: %d bytes", free)
	}
	for name, text := range map[string]string{"memory.max": "4000000000\n", "memory.current": "3000000000\n", "memory.stat": "anon 5\ninactive_file 500000000\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if free := groupMemory(dir); free != 1_500_000_000 {
		t.Errorf("%d bytes are free, want 1.5e9", free)
	}
	if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte("max\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if free := groupMemory(dir); free < 1<<62 {
		t.Errorf("no limit: %d bytes", free)
	}
}
