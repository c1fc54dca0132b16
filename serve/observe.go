package serve

import (
	"context"
	"time"
)

// Stage is a part of a study's way through the engine.
type Stage string

// The stages in their order. Each but StageRead and StageFuse is of one object, which meets two of them twice: it waits to be
// parsed and to be run, and the recipe is applied when it is parsed, the model's input made of that before the run.
const (
	StageRead       Stage = "read"       // of a request: until its last object was there and parsed
	StageQueue      Stage = "queue"      // waiting for a core or for a batch
	StageParse      Stage = "parse"      // the DICOM data set
	StageDecode     Stage = "decode"     // its pixels
	StagePreprocess Stage = "preprocess" // the recipe; the model's input
	StageRun        Stage = "run"        // in the network
	StageFuse       Stage = "fuse"       // of a study
)

// stages are all of them.
func stages() []Stage {
	return []Stage{StageRead, StageQueue, StageParse, StageDecode, StagePreprocess, StageRun, StageFuse}
}

// Observer hears what an engine does. Its methods are called from many goroutines, and work waits for them.
type Observer interface {
	// Stage hears of each piece of work that was done, and not of what failed. ctx is the request's.
	Stage(ctx context.Context, s Stage, start time.Time, took time.Duration)
	// Batch hears of each Run, of so many images.
	Batch(images int)
	// Rejected hears of each object that is not used, with the code of its Rejection; not of one that is there twice.
	Rejected(code string)
}

// unobserved is the Observer of those who want none.
type unobserved struct{}

func (unobserved) Stage(context.Context, Stage, time.Time, time.Duration) {}
func (unobserved) Batch(int)                                              {}
func (unobserved) Rejected(string)                                        {}

// stage tells the observer of work that began at start and is done now, and returns how long it took.
func (e *Engine) stage(ctx context.Context, s Stage, start time.Time) time.Duration {
	took := time.Since(start)
	e.observer.Stage(ctx, s, start, took)
	return took
}
