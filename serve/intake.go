package serve

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/serve/api"
)

// Upload is one file that should be a DICOM object.
type Upload struct {
	Name string // for the answer; never logged
	Data []byte
	Err  error // why there are no data: the file is rejected, with the code of a *cxr.Refusal where it is one

	free func() // gives Data back, where that is wanted
}

// Uploads is a sequence of files at hand.
func Uploads(files ...Upload) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
	}
}

// view is one object on its way through the engine.
type view struct {
	name      string
	image     *cxr.Image
	flags     []string
	logits    [model.NumLabels]float32
	attention []float32 // [g*g]; nil if the model has none
	seen      []uint8   // [S*S], the model's input; nil if there is no attention to lay over it

	queue, parse, decode, prepare, run time.Duration
}

// intake is what a request held.
type intake struct {
	views    []*view
	rejected []Rejection
}

// read parses files as they arrive, each on a worker, and keeps no more of them than the stored images.
func (e *Engine) read(ctx context.Context, uploads iter.Seq2[Upload, error]) (*intake, error) {
	var in intake
	var mu sync.Mutex
	group, reading := errgroup.WithContext(ctx)
	var failed error
	for file, err := range uploads {
		if failed = err; failed != nil {
			break
		}
		arrived := time.Now()
		failed = e.workers.start(reading, group.Go, func() error {
			waited := e.stage(reading, StageQueue, arrived)
			v, rejected := e.parse(reading, file)
			if file.free != nil && v != nil { // else a decoder that was given up may still read it
				file.free()
			}
			mu.Lock()
			defer mu.Unlock()
			if rejected != nil {
				e.observer.Rejected(rejected.Code)
				in.rejected = append(in.rejected, *rejected)
			} else {
				v.queue = waited
				in.views = append(in.views, v)
			}
			return nil
		})
		if failed != nil {
			break
		}
	}
	if err := group.Wait(); err != nil && failed == nil {
		failed = err
	}
	if failed == nil && ctx.Err() != nil { // what was given up is not refused
		failed = context.Cause(ctx)
	}
	if failed != nil {
		return nil, failed
	}
	return &in, nil
}

func (e *Engine) parse(ctx context.Context, file Upload) (v *view, rejected *Rejection) {
	if file.Err != nil {
		if refusal := (*cxr.Refusal)(nil); errors.As(file.Err, &refusal) {
			return nil, &Rejection{Name: file.Name, Code: refusal.Code, Detail: refusal.Detail}
		}
		return nil, &Rejection{Name: file.Name, Code: CodeUnreadable, Detail: file.Err.Error()}
	}
	v = &view{name: file.Name}
	start := time.Now()
	lap := func(s Stage) time.Duration {
		took := e.stage(ctx, s, start)
		start = time.Now()
		return took
	}
	options := cxr.Options{Recipe: e.recipe, Limits: e.limits, Modalities: e.modalities, Codecs: e.codecs.Decoders(ctx), Done: func(p cxr.Part) {
		switch p {
		case cxr.Parsed:
			v.parse = lap(StageParse)
		case cxr.Decoded:
			v.decode = lap(StageDecode)
		}
	}}
	err := guard(func() (err error) {
		v.image, err = options.FromDICOM(file.Data)
		return err
	})
	var refusal *cxr.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, &Rejection{Name: file.Name, Code: refusal.Code, Detail: refusal.Detail}
	case err != nil:
		return nil, &Rejection{Name: file.Name, Code: CodeInternal, Detail: "this program failed at it; the log says where"}
	case v.image.StudyInstanceUID == "":
		return nil, &Rejection{Name: file.Name, Code: CodeNoStudyUID, Detail: "StudyInstanceUID (0020,000D) is missing: nobody knows whose view this is"}
	}
	v.prepare, v.flags = lap(StagePreprocess), slices.Clone(v.image.Flags)
	return v, nil
}

// studies groups the views by Study Instance UID, in the order of these.
func (in *intake) studies() [][]*view {
	byUID := map[string][]*view{}
	for _, v := range in.views {
		byUID[v.image.StudyInstanceUID] = append(byUID[v.image.StudyInstanceUID], v)
	}
	var studies [][]*view
	for _, uid := range slices.Sorted(maps.Keys(byUID)) {
		studies = append(studies, byUID[uid])
	}
	return studies
}

// unique sorts views by SOP Instance UID, then by picture, and takes out those that say the same thing twice: an object
// sent again, in whatever transfer syntax, must not count double. The same UID with another picture is used and flagged;
// real archives hold such pairs.
func unique(views []*view) (kept []*view, rejected []Rejection) {
	slices.SortFunc(views, func(a, b *view) int {
		return cmp.Or(
			cmp.Compare(a.image.SOPInstanceUID, b.image.SOPInstanceUID),
			bytes.Compare(a.image.Stored, b.image.Stored),
			cmp.Compare(a.image.View, b.image.View),
			cmp.Compare(a.name, b.name))
	})
	shared := map[string]int{}
	for i, v := range views {
		if i > 0 && samePicture(v, views[i-1]) {
			rejected = append(rejected, Rejection{Name: v.name, Code: CodeDuplicate, Detail: "same object as " + views[i-1].name + ", which is used"})
			continue
		}
		kept = append(kept, v)
		shared[v.image.SOPInstanceUID]++
	}
	for _, v := range kept {
		if shared[v.image.SOPInstanceUID] > 1 {
			v.flags = append(v.flags, FlagSharedUID)
		}
	}
	return kept, rejected
}

func samePicture(a, b *view) bool {
	return a.image.SOPInstanceUID == b.image.SOPInstanceUID && a.image.View == b.image.View &&
		bytes.Equal(a.image.Stored, b.image.Stored)
}

func onePatient(views []*view) error {
	ids := map[string]bool{}
	for _, v := range views {
		if v.image.PatientID != "" {
			ids[v.image.PatientID] = true
		}
	}
	if len(ids) > 1 {
		return problem(http.StatusUnprocessableEntity, "two_patients", "correct the PatientID (0010,0020) of the wrong objects",
			"study %s holds objects of %d patients", HashUID(views[0].image.StudyInstanceUID), len(ids))
	}
	return nil
}

func twoStudies(studies [][]*view) error {
	count := map[string]int{}
	for _, views := range studies {
		count[views[0].image.StudyInstanceUID] = len(views)
	}
	return severalStudies(count)
}

// severalStudies is the refusal of a request with objects of several studies, so many of each UID.
func severalStudies(count map[string]int) error {
	var names []string
	for _, uid := range slices.Sorted(maps.Keys(count)) {
		names = append(names, fmt.Sprintf("%d of %s", count[uid], HashUID(uid)))
	}
	return problem(http.StatusUnprocessableEntity, "two_studies",
		"send each study in its own request; the names are hashes of the StudyInstanceUID (0020,000D)",
		"the request holds objects of %d studies: %s", len(count), strings.Join(names, ", "))
}

func noUsableView(rejected []Rejection) error {
	p := problem(http.StatusUnprocessableEntity, "no_usable_view", "send at least one chest radiograph (CR or DX)",
		"no view can be classified; objects rejected: %d", len(rejected))
	if len(rejected) == 0 {
		p.Detail = "the request holds no object"
	}
	p.Rejected = api.SortRejections(rejected)
	return p
}
