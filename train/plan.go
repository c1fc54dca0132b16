package train

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/compute"
)

// Plan is what a compiled step takes of the device's memory, in bytes, as XLA planned it: told before the step runs.
type Plan struct {
	Inputs    int64 // parameters, the optimiser's moments and the batch
	Outputs   int64 // those that do not take the place of an input
	Temporary int64 // all between: activations kept for the gradients, and the gradients
	Code      int64
}

// Total is the memory that the step needs to run.
func (p Plan) Total() int64 { return p.Inputs + p.Outputs + p.Temporary + p.Code }

// MemoryError says that a step does not fit into memory.
type MemoryError struct {
	Plan Plan
	Free int64 // bytes; 0 where the device does not say
	// Views is the largest batch that should fit, with Accumulate batches a step, which sees as many views as before; 0 for none.
	Views, Accumulate int
	key               string // of the batch's size in the config
	preset            string
	cause             error
}

func (e *MemoryError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("out of memory: a step takes %s: %v", bytesText(e.Plan.Total()), e.cause)
	}
	return fmt.Sprintf("out of memory: a step takes %s (%s of it for activations and gradients), %s are free",
		bytesText(e.Plan.Total()), bytesText(e.Plan.Temporary), bytesText(e.Free))
}

func (e *MemoryError) Unwrap() error { return e.cause }

// Hint names the batch size to try.
func (e *MemoryError) Hint() string {
	if e.Views == 0 {
		return fmt.Sprintf("no batch fits: take a smaller preset than %s, or a machine with more memory", e.preset)
	}
	return fmt.Sprintf("try --set %s=%d --set accumulate=%d, whose steps see as many views", e.key, e.Views, e.Accumulate)
}

// planOf reads what go-xla keeps of XLA's memory analysis and does not hand out: the field
// exec.OnDeviceMemoryUsageStats of its executable. Reflection may read a field that is not exported, and says if it is gone.
func planOf(exe compute.Executable) (p Plan, ok bool) {
	v := reflect.Indirect(reflect.ValueOf(exe))
	for _, name := range []string{"exec", "OnDeviceMemoryUsageStats"} {
		if v.Kind() != reflect.Struct {
			return p, false
		}
		v = reflect.Indirect(v.FieldByName(name))
	}
	get := func(name string) int64 {
		f := v.FieldByName(name)
		ok = ok && f.IsValid() && f.CanInt()
		if !ok {
			return 0
		}
		return f.Int()
	}
	if ok = v.Kind() == reflect.Struct; !ok {
		return p, false
	}
	p = Plan{Inputs: get("Inputs"), Outputs: get("Outputs") - get("Aliases"), Temporary: get("Temporary"), Code: get("GeneratedCode")}
	return p, ok && p.Inputs > 0
}

// watchMemory has the loop's first step planned: told, and refused if it does not fit. The caller calls done after it.
func (l *loop) watchMemory() (done func()) {
	p, ok := l.dev.Backend.(*planner)
	if !ok {
		return func() {}
	}
	dev := l.dev
	p.check = func(plan Plan) error {
		l.plan = plan
		free := dev.MemoryBytes
		if free == 0 && dev.Kind == "cpu" {
			free = freeMemory()
		}
		l.resident, _ = residentMemory()
		told := []any{"planned", bytesText(plan.Total()), "activations and gradients", bytesText(plan.Temporary)}
		if free > 0 {
			told = append(told, "free", bytesText(free))
		}
		slog.Info("memory of a step", told...)
		if free > 0 && plan.Total() > free {
			return l.tooLarge(free, nil)
		}
		return nil
	}
	return func() { p.check = nil }
}

// tooLarge names the batch size to try. What a batch of V views takes is taken for a line: parameters, moments and gradients
// stay, the rest is in proportion to V.
func (l *loop) tooLarge(free int64, cause error) *MemoryError {
	e := &MemoryError{Plan: l.plan, Free: free, key: "batch_views", preset: l.spec.Preset, cause: cause}
	switch l.run.Info.Kind {
	case "pretrain":
	case "probe":
		e.key = "probe.batch_views"
	default:
		e.key = "finetune.batch_views"
	}
	views := l.loader.views
	budget := 0.9 * float64(free)
	if free == 0 { // the device does not say: half of what was too much
		budget = float64(l.plan.Total()) / 2
	}
	values := 0
	for _, p := range l.params {
		values += p.Size()
	}
	const perValue = 4 * 4 // float32: parameter, two moments, gradient
	fixed := math.Min(float64(perValue*values)+float64(l.plan.Code), float64(l.plan.Total()))
	perView := (float64(l.plan.Total()) - fixed) / float64(views)
	if l.run.Config.Accumulate == 1 { // the smaller batches need sums of gradients
		fixed += float64(4 * values)
	}
	fit := min(int((budget-fixed)/perView), views-1)
	if l.run.Config.padded() {
		fit -= fit % Slots
	}
	if fit >= slices.Max(l.loader.sizes) {
		e.Views, e.Accumulate = fit, l.run.Config.Accumulate*((views+fit-1)/fit)
	}
	return e
}

// outOfMemory makes a device's own complaint a *MemoryError.
func (l *loop) outOfMemory(err error) error {
	if text := err.Error(); strings.Contains(text, "RESOURCE_EXHAUSTED") || strings.Contains(strings.ToLower(text), "out of memory") {
		if planned := (*MemoryError)(nil); !errors.As(err, &planned) {
			return l.tooLarge(0, err)
		}
	}
	return err
}

// freeMemory is how many bytes of memory and swap this process may still take; 0 where the system does not say.
func freeMemory() int64 {
	free := int64(0)
	for _, name := range []string{"MemAvailable", "SwapFree"} {
		free += procValue("/proc/meminfo", name)
	}
	if free == 0 {
		return 0
	}
	return min(free, groupMemory("/sys/fs/cgroup"))
}

// groupMemory is what the control group of this process (version 2) leaves it; no limit where there is none.
func groupMemory(root string) int64 {
	read := func(name string) (int64, bool) {
		doc, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(doc)), 10, 64)
		return n, err == nil
	}
	limit, limited := read("memory.max")
	used, known := read("memory.current")
	if !limited || !known {
		return math.MaxInt64
	}
	// Pages of files that were read count as used, and are given back first.
	return limit - used + procValue(filepath.Join(root, "memory.stat"), "inactive_file")
}

// procValue is the number after a name in a file of lines "name value" or "name: value kB", in bytes; 0 without it.
func procValue(path, name string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || strings.TrimSuffix(fields[0], ":") != name {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0
		}
		if len(fields) > 2 && fields[2] == "kB" {
			n *= 1024
		}
		return n
	}
	return 0
}

// residentMemory is what this process has resident, now and at most so far, in bytes; 0 where the system does not say.
func residentMemory() (now, peak int64) {
	const status = "/proc/self/status"
	return procValue(status, "VmRSS"), procValue(status, "VmHWM")
}

// bytesText shows a number of bytes with three digits.
func bytesText(n int64) string {
	x, unit := float64(n), 0
	for x >= 999.5 && unit < 4 {
		x, unit = x/1000, unit+1
	}
	return fmt.Sprintf("%.3g %s", x, [...]string{"B", "kB", "MB", "GB", "TB"}[unit])
}
