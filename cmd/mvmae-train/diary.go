package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
)

// diary is what a reproduction has done so far, in its folder: a step is done when it stands here, not when its folder is there.
type diary struct {
	path    string
	Budget  string             `json:"budget"`
	Seconds map[string]float64 `json:"seconds"` // that each step took, by what it makes
}

const diaryFile = "reproduce.json"

// openDiary reads the diary of a folder, or begins one.
func openDiary(dir, budget string) (*diary, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("reproduce: %w", err)
	}
	d := &diary{path: filepath.Join(dir, diaryFile), Budget: budget, Seconds: map[string]float64{}}
	doc, err := os.ReadFile(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(doc, d)
	}
	if err != nil {
		return nil, fmt.Errorf("reproduce: %s: %w", d.path, err)
	}
	if d.Budget != budget {
		return nil, hint.Wrap(fmt.Errorf("reproduce: %s was begun with --budget %s", dir, d.Budget), "name another folder with --out")
	}
	return d, nil
}

// has reports whether a step is done, and what it made is still there.
func (d *diary) has(s step) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(d.path), s.makes))
	return d.Seconds[s.makes] > 0 && err == nil
}

// add notes that a step is done.
func (d *diary) add(s step, took time.Duration) error {
	d.Seconds[s.makes] = took.Seconds()
	doc, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return model.WriteFileAtomic(d.path, func(w io.Writer) error {
		_, err := w.Write(append(doc, '\n'))
		return err
	})
}

// progress is the time that the steps so far took, and what is left at their pace: as much slower or faster than expected.
func (d *diary) progress(steps []step) string {
	var took, expected, left time.Duration
	for _, s := range steps {
		if d.has(s) {
			took += time.Duration(d.Seconds[s.makes] * float64(time.Second))
			expected += s.expected
		} else {
			left += s.expected
		}
	}
	if expected > 0 {
		left = time.Duration(float64(left) * float64(took) / float64(expected))
	}
	return fmt.Sprintf("%s done, about %s left", took.Round(time.Second), left.Round(time.Second))
}

// What the expected times rest on, measured with preset tiny on two quiet cores.
const (
	perCommand     = 8 * time.Second       // to start, to compile, to draw a thousand bootstrap replicates
	perStudy       = 30 * time.Millisecond // to draw, at 256 pixels; in proportion to the side
	perPackedImage = 3 * time.Millisecond
	maskedRate     = 125e9 // FLOPs a second of pretraining steps,
	wholeRate      = 220e9 // and of whole images, in training or not
	imagesPerStudy = 1.33  // of the four institutions together
	trainShare     = 0.6   // of the studies
)

// costs are the times that the steps of a budget are expected to take; on another machine they are in proportion, which is what
// diary.progress needs.
type costs struct {
	budget  budget
	configs map[string]train.Config // by method
	network map[string]model.Cost
}

func (r reproduction) costs() (costs, error) {
	c := costs{r.budget, map[string]train.Config{}, map[string]model.Cost{}}
	for _, method := range pretrained {
		cfg, err := train.LoadConfig(r.budget.recipe, []string{"method=" + method})
		if err != nil {
			return c, err
		}
		spec, err := cfg.Spec()
		if err != nil {
			return c, err
		}
		if method == "mvmae-v2t" {
			t := cfg.Text
			spec.Text = model.Text{Vocabulary: t.Vocabulary, MaxTokens: t.MaxTokens, Depth: t.Depth, Heads: t.Heads, Positions: t.Positions}
		}
		if c.network[method], err = model.CostOf(spec, cfg.Visible(spec.NumPatches())); err != nil {
			return c, err
		}
		c.configs[method] = cfg
	}
	return c, nil
}

// images of all studies of a pack, of all institutions.
func (c costs) images() float64 { return float64(4*c.budget.studies) * imagesPerStudy }

func computing(flops, rate float64) time.Duration {
	return perCommand + time.Duration(flops/rate*float64(time.Second))
}

// drawing is one institution.
func (c costs) drawing() time.Duration {
	return time.Duration(c.budget.studies) * perStudy * time.Duration(c.budget.size) / 256
}

func (c costs) packing() time.Duration { return time.Duration(c.images() * float64(perPackedImage)) }

func (c costs) pretraining(method string) time.Duration {
	n := c.network[method]
	return computing(3*float64(n.Encode+n.Decode+n.Text)*c.images()*trainShare*c.configs[method].Epochs, maskedRate)
}

// classifier is a probe, which looks at each image once, or a training, which also scores both held-out splits after each epoch.
func (c costs) classifier(e experiment) time.Duration {
	embed := float64(c.network["mvmae"].Embed)
	learned := c.images() * trainShare
	if e.labels > 0 {
		learned = float64(e.labels) * imagesPerStudy
	}
	held := c.images() * (1 - trainShare)
	if e.kind == "probe" {
		return time.Duration(max(e.seeds, 1)) * computing(embed*(learned+held), wholeRate)
	}
	return computing(c.configs["mvmae"].Finetune.Epochs*embed*(3*learned+held), wholeRate)
}

// print shows the steps and their expected times.
func (r reproduction) print(steps []step) error {
	total := time.Duration(0)
	seconds := map[string]float64{}
	for i, s := range steps {
		r.out.Printf("%2d %-28s %8s\n", i+1, s.makes, s.expected.Round(time.Second))
		total += s.expected
		seconds[s.makes] = s.expected.Seconds()
	}
	r.out.Printf("%d steps, about %.1f hours on two quiet CPU cores (no GPU was measured)\n", len(steps), total.Hours())
	return r.out.Result(map[string]any{"budget": r.budget.name, "seconds": seconds, "total_seconds": total.Seconds()})
}
