package data

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Fewer is the pack with only n of its labelled training studies: the first of an order that seed and the studies' identifiers give, so
// that fewer are always a part of more. All else is shared with p, which is to be closed.
func (p *Pack) Fewer(n int, seed uint64) (*Pack, error) {
	type ranked struct {
		study int
		rank  [sha256.Size]byte
	}
	var train []ranked
	for _, s := range p.StudiesOf(Train) {
		if study := p.Studies[s]; study.Labels != model.AbsentLabels() {
			key := binary.LittleEndian.AppendUint64(nil, seed)
			train = append(train, ranked{s, sha256.Sum256(append(key, study.Dataset+"\x00"+study.ID...))})
		}
	}
	if n < 1 || n > len(train) {
		return nil, hint.Wrap(fmt.Errorf("%d labelled training studies of the pack's %d", n, len(train)), "ask for 1 to %d, or for all by leaving it out", len(train))
	}
	slices.SortFunc(train, func(a, b ranked) int { return slices.Compare(a.rank[:], b.rank[:]) })
	keep := map[int]bool{}
	for _, r := range train[:n] {
		keep[r.study] = true
	}
	fewer := *p
	fewer.Studies = nil
	for s, study := range p.Studies {
		if study.Split != Train || keep[s] {
			fewer.Studies = append(fewer.Studies, study)
		}
	}
	return &fewer, nil
}

// OfTwoViews is the pack with only the studies that have exactly two views; with one, of each only the first frontal view, or the first.
// All else is shared with p, which is to be closed.
func (p *Pack) OfTwoViews(one bool) *Pack {
	two := *p
	two.Studies = nil
	for _, study := range p.Studies {
		if len(study.Images) != 2 {
			continue
		}
		if one {
			first := study.Images[0]
			if p.Images[first].View != cxr.Frontal && p.Images[study.Images[1]].View == cxr.Frontal {
				first = study.Images[1]
			}
			study.Images = []int{first}
		}
		two.Studies = append(two.Studies, study)
	}
	return &two
}
