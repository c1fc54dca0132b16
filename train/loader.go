package train

import (
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train/data"
)

// loader deals studies into batches and makes the inputs that every task's batches have.
type loader struct {
	cfg     Config
	pack    *data.Pack
	views   int   // places of a batch
	studies []int // as indexes into pack.Studies
	sizes   []int // places that each study takes
	places  int   // their sum: a pass over the studies
	packer  *packer
}

// hostBatch is one batch, still with the host.
type hostBatch struct {
	studies []int   // one a row of the study matrix, as indexes into pack.Studies
	places  []place // one a view image; those of a study lie side by side
	views   int     // places that are not empty
	weight  float64 // how much its mean loss counts among the batches of a step
	inputs  []any   // stored [V,256,256], draws [V,numDraws], view [V], study [V,V], then the task's own
}

// place is where one view image of a batch goes. An empty place has image and row -1: it holds a black image that belongs
// to no study, and so counts in no loss.
type place struct{ image, row int }

func newLoader(cfg Config, views int, pack *data.Pack, studies []int) (*loader, error) {
	if len(studies) == 0 {
		return nil, hint.Wrap(fmt.Errorf("the pack has no study to train on"), `see the splits that "mvmae-train index" printed`)
	}
	l := &loader{cfg: cfg, pack: pack, views: views, studies: studies}
	for _, s := range studies {
		size := len(pack.Studies[s].Images)
		if cfg.Recipe == "code" {
			size = min(size, Slots)
		}
		if cfg.padded() {
			size = Slots
		}
		if size > views {
			return nil, hint.Wrap(fmt.Errorf("study %s has %d images, a batch has %d places", pack.Studies[s].ID, size, views),
				"set batch_views=%d or more", size)
		}
		l.sizes = append(l.sizes, size)
		l.places += size
	}
	l.packer = newPacker(l.sizes, views, cfg.Seed)
	return l, nil
}

// name is a study's name for errors, which never hold its own.
func (l *loader) name(study int) string {
	return data.Hashed(l.pack.Studies[study].Dataset, l.pack.Studies[study].ID)
}

// studiesPerStep is the mean number of studies of a step's batches.
func (l *loader) studiesPerStep() float64 {
	return float64(l.cfg.Accumulate*l.views) * float64(len(l.studies)) / float64(l.places)
}

// skip passes over n batches.
func (l *loader) skip(n int) {
	for range n {
		l.packer.next()
	}
}

// deal chooses what the next batch holds.
func (l *loader) deal(rng *rand.Rand) hostBatch {
	var b hostBatch
	for row, chosen := range l.packer.next() {
		s := l.studies[chosen]
		b.studies = append(b.studies, s)
		images := l.pack.Studies[s].Images
		order := make([]int, len(images))
		for i := range order {
			order[i] = i
		}
		if len(images) > l.sizes[chosen] { // other views of it in every batch
			order = rng.Perm(len(images))
		}
		for i := range l.sizes[chosen] {
			if i >= len(images) {
				b.places = append(b.places, place{-1, -1})
				continue
			}
			b.places = append(b.places, place{images[order[i]], row})
			b.views++
		}
	}
	for len(b.places) < l.views {
		b.places = append(b.places, place{-1, -1})
	}
	return b
}

// batch makes a task's batch of a number. They must be asked for in order.
func (l *loader) batch(number int, t task) hostBatch {
	rng := newRand(l.cfg.Seed, streamDraws, number)
	b := l.deal(rng)
	v := l.views
	stored := make([]uint8, v*cxr.StoredSize*cxr.StoredSize)
	draws := make([]float32, 0, v*numDraws)
	view := make([]int32, v)
	study := make([]float32, v*v)
	for i, p := range b.places {
		if p.image < 0 {
			draws = noAugment(draws)
			continue
		}
		copy(stored[i*cxr.StoredSize*cxr.StoredSize:], l.pack.Pixels(p.image))
		draws = l.cfg.Augment.draw(rng, draws)
		view[i] = int32(l.pack.Images[p.image].View)
		study[p.row*v+i] = 1
	}
	own, weight := t.inputs(rng, b)
	b.weight = weight
	b.inputs = append([]any{
		tensors.FromFlatDataAndDimensions(stored, v, cxr.StoredSize, cxr.StoredSize),
		tensors.FromFlatDataAndDimensions(draws, v, numDraws),
		tensors.FromFlatDataAndDimensions(view, v),
		tensors.FromFlatDataAndDimensions(study, v, v),
	}, own...)
	return b
}
