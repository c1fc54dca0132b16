package cxr

import (
	"sync"

	"github.com/mvmae/mvmae/dicom/codec"
)

// workspace is the memory that one image needs on its way to the stored picture: some megabyte, used again and again.
type workspace struct {
	counts      codec.Counts
	table       codec.Table
	fine        codec.FineTable // of reduced planes
	x, y        cuts
	block, edge sums
	rows        [3][StoredSize]int64
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

// cuts part n values into blocks, one for each output of an area average. On the line where value j covers
// [j*size, (j+1)*size) and output i covers [i*n, (i+1)*n), block i begins with the value that lies over i*n, of which part
// lies before: it belongs to the output before.
type cuts struct {
	at   [StoredSize + 1]int
	part [StoredSize + 1]int64
}

func (c *cuts) set(n, size, offset int) {
	for i := range c.at {
		from := (offset + i) * n
		c.at[i], c.part[i] = from/size, int64(from%size)
	}
}

// sums are those of some rows: of the pixels in each block, and of each block's first ones.
type sums struct {
	all   [StoredSize]uint32
	first [StoredSize + 1]uint32
}

// average writes the area averages of the rows, times the number of columns, to dst.
func (s *sums) average(size int64, part *[StoredSize + 1]int64, dst *[StoredSize]int64) {
	for j := range dst {
		dst[j] = size*int64(s.all[j]) - part[j]*int64(s.first[j]) + part[j+1]*int64(s.first[j+1])
	}
}

// shrink does what [enlarge] does for an image of which neither axis grows, as nearly all are. It gives the same bytes, but
// looks at each pixel once, and multiplies once per output rather than once per row.
func shrink(p *codec.Plane, w *workspace, width, height, left, top int, stored []byte) {
	w.x.set(p.Columns, width, left)
	w.y.set(p.Rows, height, top)
	columns := codec.Cuts{At: w.x.at[:], Short: p.Columns / width}
	add := func(row int, to *sums) {
		if row < p.Rows { // the last block of all is not followed by one, and no part of it is missed
			p.SumRow(row, &w.table, columns, to.all[:], to.first[:])
		}
	}
	whole, before, after := &w.rows[0], &w.rows[1], &w.rows[2]
	total := float64(p.Rows) * float64(p.Columns)
	half := int64(p.Rows) * int64(p.Columns) / 2

	w.edge = sums{}
	add(w.y.at[0], &w.edge)
	w.edge.average(int64(width), &w.x.part, before)
	for i := range StoredSize {
		w.block = w.edge
		for row := w.y.at[i] + 1; row < w.y.at[i+1]; row++ {
			add(row, &w.block)
		}
		w.block.average(int64(width), &w.x.part, whole)
		w.edge = sums{}
		add(w.y.at[i+1], &w.edge)
		w.edge.average(int64(width), &w.x.part, after)

		line := stored[i*StoredSize:][:StoredSize]
		for j := range line {
			v := int64(height)*whole[j] - w.y.part[i]*before[j] + w.y.part[i+1]*after[j]
			// A rounded quotient of integers below 2^53 never reaches the next integer, so this is exact.
			line[j] = uint8(float64(v+half) / total)
		}
		before, after = after, before
	}
}
