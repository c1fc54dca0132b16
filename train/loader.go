package train

import (
	"fmt"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// loader makes the host's part of pretraining batches.
type loader struct {
	cfg        Config
	spec       model.Spec
	pack       *data.Pack
	studies    []int // training studies, as indexes into pack.Studies
	trainViews int   // their images
	packer     *packer
}

// hostBatch are the inputs of one step, still with the host.
type hostBatch struct {
	inputs  []any // stored [V,256,256], draws [V,numDraws], view [V], keep [V,K], restore [V,N], study [V,V]
	studies []int // as indexes into pack.Studies
	views   int   // places that are not empty
}

func newLoader(cfg Config, spec model.Spec, pack *data.Pack) (*loader, error) {
	l := &loader{cfg: cfg, spec: spec, pack: pack, studies: pack.StudiesOf(data.Train)}
	if len(l.studies) == 0 {
		return nil, hint.Wrap(fmt.Errorf("the pack has no training study"), `see the splits that "mvmae-train index" printed`)
	}
	sizes := make([]int, len(l.studies))
	for i, s := range l.studies {
		sizes[i] = len(pack.Studies[s].Images)
		l.trainViews += sizes[i]
		if sizes[i] > cfg.BatchViews {
			return nil, hint.Wrap(fmt.Errorf("study %s has %d images, a batch has %d places", pack.Studies[s].ID, sizes[i], cfg.BatchViews),
				"set batch_views=%d or more", sizes[i])
		}
	}
	l.packer = newPacker(sizes, cfg.BatchViews, cfg.Seed)
	return l, nil
}

// skip passes over the batches of n steps.
func (l *loader) skip(n int) {
	for range n {
		l.packer.next()
	}
}

// batch makes the batch of a step. Steps must be asked for in order. Empty places hold black images that belong to no
// study, and so count in no loss.
func (l *loader) batch(step int) hostBatch {
	v, n := l.cfg.BatchViews, l.spec.NumPatches()
	k := l.cfg.Mask.Visible(n)
	stored := make([]uint8, v*cxr.StoredSize*cxr.StoredSize)
	draws := make([]float32, 0, v*numDraws)
	view := make([]int32, v)
	keep, restore := make([]int32, 0, v*k), make([]int32, 0, v*n)
	study := make([]float32, v*v)

	rng := newRand(l.cfg.Seed, streamDraws, step)
	b := hostBatch{}
	for row, chosen := range l.packer.next() {
		s := l.studies[chosen]
		b.studies = append(b.studies, s)
		keepStudy, restoreStudy := mask(rng, n, k) // one mask for all views: the alignment loss pairs tokens by place
		for _, image := range l.pack.Studies[s].Images {
			copy(stored[b.views*cxr.StoredSize*cxr.StoredSize:], l.pack.Pixels(image))
			draws = l.cfg.Augment.draw(rng, draws)
			view[b.views] = int32(l.pack.Images[image].View)
			keep, restore = append(keep, keepStudy...), append(restore, restoreStudy...)
			study[row*v+b.views] = 1
			b.views++
		}
	}
	for range v - b.views {
		draws = noAugment(draws)
		keepEmpty, restoreEmpty := mask(rng, n, k)
		keep, restore = append(keep, keepEmpty...), append(restore, restoreEmpty...)
	}
	b.inputs = []any{
		tensors.FromFlatDataAndDimensions(stored, v, cxr.StoredSize, cxr.StoredSize),
		tensors.FromFlatDataAndDimensions(draws, v, numDraws),
		tensors.FromFlatDataAndDimensions(view, v),
		tensors.FromFlatDataAndDimensions(keep, v, k),
		tensors.FromFlatDataAndDimensions(restore, v, n),
		tensors.FromFlatDataAndDimensions(study, v, v),
	}
	return b
}
