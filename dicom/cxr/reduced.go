package cxr

import (
	"math"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// Recipe display may take JPEG 2000 without its finest levels of resolution, when the picture is the same but for 0.15 of
// 255 on the mean. docs/decisions.md, "Reduced decoding, for display only", has the measurements behind these numbers.
const (
	reducedSide = 9 * StoredSize / 4 // the fewest samples that may be left of a side
	reducedBits = 10                 // the fewest: a low band is rounded to whole values
	// How rough the gray values may be, of 255: see roughness. The filter of the 9/7 transform lets less of the noise through.
	roughest    = 4.0
	roughest9x7 = 2.6
	roughEvery  = 4 // rows: one in so many tells enough

	fineLevels = math.MaxUint16 / math.MaxUint8 // of a codec.FineTable, to a level of 255
)

// decode decodes the pixels as fully as the recipe needs them.
func (o Options) decode(pixels *dicom.Pixels, h dicom.Header) (*codec.Plane, error) {
	plane, err := o.Codecs.DecodeReduced(pixels, o.Recipe.reduction(pixels, h))
	if err != nil || plane.Reduced == 0 {
		return plane, err
	}
	limit := roughest
	if plane.Irreversible {
		limit = roughest9x7
	}
	rough, err := o.Recipe.roughness(plane, h)
	if err != nil || rough <= limit {
		return plane, err
	}
	return o.Codecs.Decode(pixels)
}

// reduction is how many levels of resolution a decoder may leave out of an image: for display with a window or a VOI LUT.
// Without either display stretches the range that occurs, and mimic equalises what occurs: both need every pixel. So do
// padding (PS3.3 C.7.5.1.1.2) and the entries of a palette, which mean nothing on the average.
func (r Recipe) reduction(p *dicom.Pixels, h dicom.Header) int {
	_, padded := h[tag.PixelPaddingValue]
	if r.Name != Display.Name || !strings.HasPrefix(p.Photometric, "MONOCHROME") || p.BitsStored < reducedBits ||
		p.HighBit != p.BitsStored-1 || padded {
		return 0
	}
	if voi, err := voiLUT(h, p.Signed); voi == nil || err != nil {
		return 0
	}
	levels := 0
	for min(p.Rows, p.Columns)>>(levels+1) >= reducedSide {
		levels++
	}
	return levels
}

// lowBandBias is by how much the samples of a reduced plane are too large. The two lifting steps of the 5/3 transform round
// down, and half up: a quarter of a step for rows and one for columns, at each level, when all remainders are as frequent.
func lowBandBias(p *codec.Plane) float64 {
	if p.Irreversible {
		return 0
	}
	return 0.5 * float64(p.Reduced)
}

// roughness is how much the gray values of a reduced plane bend along its rows, |2b-a-c| on the mean, of 255. What the
// missing levels hold is hardly ever rougher, and they are what the picture will lack: noise, that is.
func (r Recipe) roughness(p *codec.Plane, h dicom.Header) (float64, error) {
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	if _, err := r.table(p, h, w); err != nil {
		return 0, err
	}
	line := make([]uint16, p.Columns)
	sum, n := 0, 0
	for row := 0; row < p.Rows; row += roughEvery {
		p.MapRowFine(row, &w.fine, line)
		for i := 1; i+1 < len(line); i++ {
			bend := 2*int(line[i]) - int(line[i-1]) - int(line[i+1])
			sum += max(bend, -bend)
			n++
		}
	}
	return float64(sum) / float64(n) / fineLevels, nil
}

// shrinkReduced is shrink for an image of which levels of resolution are missing: the area average of the full image whose
// detail coefficients are all zero. Gray values keep 16 bits until they are averaged: the noise that makes
// rounding to 8 bits harmless is gone.
func shrinkReduced(p *codec.Plane, w *workspace, width, height, left, top int, stored []byte) {
	x := lowBandAxis(p, p.FullColumns, width, left)
	y := lowBandAxis(p, p.FullRows, height, top)
	line := make([]uint16, p.Columns)
	lines := make([][StoredSize]float64, p.Rows)
	for row := range lines {
		p.MapRowFine(row, &w.fine, line)
		for j, s := range x {
			for k, weight := range s.weights {
				lines[row][j] += float64(weight * float64(line[s.from+k])) // rounded: the same on every processor
			}
		}
	}
	for i, s := range y {
		var sums [StoredSize]float64
		for k, weight := range s.weights {
			for j, v := range &lines[s.from+k] {
				sums[j] += float64(weight * v)
			}
		}
		for j, v := range sums {
			stored[i*StoredSize+j] = uint8(min(max(v/fineLevels, 0), math.MaxUint8) + 0.5)
		}
	}
}

// lowSpan is the source of one output: the weights of the samples from from on. They add up to 1.
type lowSpan struct {
	from    int
	weights []float64
}

// lowBandAxis resamples one dimension of n values, of which a low band is left, to size and keeps StoredSize outputs from
// offset on. An output is an area average of the full line, whose weights are taken down level by level with the synthesis
// filter: so sample k is centred on value k<<levels, as it must be.
func lowBandAxis(p *codec.Plane, n, size, offset int) []lowSpan {
	filter := synthesis5x3[:]
	if p.Irreversible {
		filter = synthesis9x7[:]
	}
	spans := make([]lowSpan, StoredSize)
	for i := range spans {
		full := average(offset+i, n, size)
		s := lowSpan{full.a, make([]float64, full.b-full.a+1)}
		for k := range s.weights {
			s.weights[k] = float64(size) / float64(n)
		}
		s.weights[full.b-full.a] = float64(full.last) / float64(n)
		s.weights[0] = float64(full.first) / float64(n)
		length := n
		for range p.Reduced {
			s, length = s.lower(filter, length), (length+1)/2
		}
		spans[i] = s
	}
	return spans
}

// What one low-pass coefficient adds to the values around it: its own, the next ones on either side (T.800 annex F, the
// lifting steps applied to a single one).
var (
	synthesis5x3 = [...]float64{1, 0.5}
	synthesis9x7 = [...]float64{1.115087052456994, 0.591271763114247, -0.057543526228500, -0.091271763114249}
)

// lower takes the weights of a line of so many values to those of its low-pass coefficients. At the ends a line goes on
// mirrored at its last value (T.800 F.3.7), and so do its coefficients, of which number k lies on value 2k.
func (s lowSpan) lower(filter []float64, length int) lowSpan {
	reach, last := len(filter)-1, (length-1)/2
	mirror := func(k int) int {
		if k = max(k, -k); k > last {
			return length - 1 - k
		}
		return k
	}
	first, end := (s.from-reach+1)>>1, (s.from+len(s.weights)-1+reach)>>1
	low := lowSpan{from: max(0, min(first, mirror(end)))}
	low.weights = make([]float64, min(last, max(end, mirror(first)))-low.from+1)
	for i, weight := range s.weights {
		u := s.from + i
		for k := (u - reach + 1) >> 1; 2*k <= u+reach; k++ {
			low.weights[mirror(k)-low.from] += float64(weight * filter[max(u-2*k, 2*k-u)])
		}
	}
	return low
}
