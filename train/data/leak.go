package data

import "crypto/sha256"

// dropLeaks takes out of training, and of validation, the studies that have an image whose very pixels are held out further: those of a
// validation or test study, of a test study. Published tables name some images twice, under two patients; in training such an image
// would give away the answer. What is tested on stays whole. Only a pack whose manifest knows of such images is read for them.
func (p *Pack) dropLeaks() {
	if p.Manifest.DuplicatesAcrossSplits == 0 {
		return
	}
	digests := make([][sha256.Size]byte, len(p.Images))
	furthest := map[[sha256.Size]byte]Split{} // of the splits that have these pixels: train, validate, test
	for i, img := range p.Images {
		digests[i] = sha256.Sum256(p.Pixels(i))
		furthest[digests[i]] = max(furthest[digests[i]], img.Split)
	}
	kept := p.Studies[:0]
	for _, s := range p.Studies {
		leaks := false
		for _, i := range s.Images {
			leaks = leaks || furthest[digests[i]] > s.Split
		}
		if leaks {
			p.Leaking++
			continue
		}
		kept = append(kept, s)
	}
	p.Studies = kept
}

// HeldOutIn counts the validation and test images of p whose pixels are those of a training image of other.
func (p *Pack) HeldOutIn(other *Pack) (n int) {
	trained := map[[sha256.Size]byte]bool{}
	for _, s := range other.StudiesOf(Train) {
		for _, i := range other.Studies[s].Images {
			trained[sha256.Sum256(other.Pixels(i))] = true
		}
	}
	for i, img := range p.Images {
		if img.Split != Train && trained[sha256.Sum256(p.Pixels(i))] {
			n++
		}
	}
	return n
}
