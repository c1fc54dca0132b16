package train

import (
	"math/rand/v2"
)

// Independent streams of random numbers: each is a pure function of the run's seed, its own constant and a counter, so a
// resumed run draws what the uninterrupted one would have drawn.
const (
	streamOrder   uint64 = 0x6f72646572 << 16
	streamDraws   uint64 = 0x6472617773 << 16
	streamProbe   uint64 = 0x70726f6265 << 16
	streamPicture uint64 = 0x706963 << 16
)

func newRand(seed, stream uint64, counter int) *rand.Rand {
	return rand.New(rand.NewPCG(seed^stream, uint64(counter)))
}

// packer deals studies into batches of a fixed number of view images. A study is never split; what does not fit waits for
// the next batch, so that few places stay empty. The sequence depends on sizes and seed alone.
type packer struct {
	sizes   []int // views of each study
	views   int   // places of a batch
	seed    uint64
	epoch   int   // passes over the studies begun so far
	order   []int // what is left of this pass
	waiting []int // studies that did not fit, oldest first
}

// maxWaiting bounds how many studies may wait: enough to fill nearly every batch, few enough to keep the order random.
const maxWaiting = 8

func newPacker(sizes []int, views int, seed uint64) *packer {
	return &packer{sizes: sizes, views: views, seed: seed}
}

// next returns the studies of the next batch.
func (p *packer) next() []int {
	var batch []int
	free := p.views
	take := func(study int) bool {
		if p.sizes[study] > free {
			return false
		}
		batch = append(batch, study)
		free -= p.sizes[study]
		return true
	}
	kept := p.waiting[:0]
	for _, study := range p.waiting {
		if !take(study) {
			kept = append(kept, study)
		}
	}
	p.waiting = kept
	for free > 0 && len(p.waiting) < maxWaiting {
		if study := p.draw(); !take(study) {
			p.waiting = append(p.waiting, study)
		}
	}
	return batch
}

// draw returns the next study of an endless sequence of shuffled passes.
func (p *packer) draw() int {
	if len(p.order) == 0 {
		p.order = newRand(p.seed, streamOrder, p.epoch).Perm(len(p.sizes))
		p.epoch++
	}
	study := p.order[0]
	p.order = p.order[1:]
	return study
}

// mask draws which patches of one study stay visible: keep is a random choice in random order, restore the place of each
// patch in the order "visible, then masked".
func mask(rng *rand.Rand, patches, visible int) (keep, restore []int32) {
	restore = make([]int32, patches)
	for place, patch := range rng.Perm(patches) {
		restore[patch] = int32(place)
		if place < visible {
			keep = append(keep, int32(patch))
		}
	}
	return keep, restore
}
