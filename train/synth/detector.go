package synth

import "math"

const (
	// quanta is the number of photons an unattenuated pixel of 0.78 mm (512 to a detector of 40 cm) records in a good exposure.
	// Behind lung (exp(-2)) that leaves 1.6 % noise, behind the heart 7 %.
	quanta   = 28000
	quantaMM = 400. / 512

	leak        = 0.004 // what passes the collimator's leaves
	penumbraMM  = 0.8   // width of the shadow's edge
	scatterGrid = 32    // scatter is smooth: it is computed on so many cells a side
	scatterMM   = 31    // it spreads by
	bodyFrom    = 0.4   // a smaller line integral is air beside the patient
)

// exposer turns line integrals into what a detector records; its buffers are reused.
type exposer struct {
	size    int
	line    []float64
	blurred []float64
	scatter coarse
	smooth  coarse
}

// expose turns line integrals into the logarithm of what the detector records, in place: quanta, collimator, point spread,
// scatter, noise. [size,size] in and out. Scatter rises with the number of photons that interact, sum*exp(-sum), spread over the
// neighbourhood: it greys the dense regions most, as in a chest film.
func (e *exposer) expose(sum []float64, v *View, noisy bool) {
	e.scatter.average(sum, e.size, scatterGrid, func(s float64) float64 { return s * exp(-s) })
	e.scatter.blur(scatterMM * scatterGrid / v.detector.FieldMM)
	for i, s := range sum {
		sum[i] = exp(-s)
	}
	if v.field != (field{}) {
		e.collimate(sum, v)
	}
	e.spread(sum, v.detector.BlurMM*float64(e.size)/v.detector.FieldMM)
	rng := stream(v.noise, streamNoise)
	perPixel := photonsPerPixel(v, e.size)
	for row := range e.size {
		for col := range e.size {
			i := row*e.size + col
			signal := sum[i] + v.scatter*e.scatter.at(row, col, e.size)
			if noisy {
				signal += math.Sqrt(signal/perPixel) * grain(rng)
			}
			sum[i] = -math.Log(max(signal, 1e-4))
		}
	}
}

// photonsPerPixel is the count without a patient.
func photonsPerPixel(v *View, size int) float64 {
	pitch := v.detector.FieldMM / float64(size)
	return quanta * v.exposure * (pitch / quantaMM) * (pitch / quantaMM)
}

// collimate keeps what the leaves leave open.
func (e *exposer) collimate(signal []float64, v *View) {
	pitch := v.detector.FieldMM / float64(e.size)
	open := func(pixel int, before, after float64) float64 { // part of the beam that passes one pair of leaves
		at := (float64(pixel) - float64(e.size-1)/2) * pitch
		return clamp((min(before+at, after-at))/penumbraMM+0.5, 0, 1)
	}
	for col := range e.size {
		e.line[col] = open(col, v.field.left, v.field.right)
	}
	for row := range e.size {
		part := open(row, v.field.top, v.field.bottom)
		for col := range e.size {
			signal[row*e.size+col] *= mix(leak, 1, part*e.line[col])
		}
	}
}

// spread blurs a picture by a Gaussian of sd pixels, in place; less than a tenth of a pixel is nothing.
func (e *exposer) spread(picture []float64, sd float64) {
	if sd < 0.1 {
		return
	}
	n, kernel := e.size, gaussian(sd)
	reach := len(kernel) / 2
	if len(e.blurred) != n*n {
		e.blurred = make([]float64, n*n)
	}
	for row := range n { // along rows
		in, out := picture[row*n:(row+1)*n], e.blurred[row*n:(row+1)*n]
		for col := range out {
			acc := 0.0
			if col >= reach && col < n-reach {
				for k, w := range kernel {
					acc += w * in[col+k-reach]
				}
			} else {
				for k, w := range kernel {
					acc += w * in[min(max(col+k-reach, 0), n-1)]
				}
			}
			out[col] = acc
		}
	}
	for row := range n { // along columns, a whole row at a time
		out := picture[row*n : (row+1)*n]
		clear(out)
		for k, w := range kernel {
			in := e.blurred[min(max(row+k-reach, 0), n-1)*n:][:n]
			for col := range out {
				out[col] += w * in[col]
			}
		}
	}
}

// gaussian is a kernel of a deviation in samples, three of them to each side; its sum is 1.
func gaussian(sd float64) []float64 {
	reach := max(1, int(math.Ceil(3*sd)))
	kernel := make([]float64, 2*reach+1)
	total := 0.0
	for k := range kernel {
		x := float64(k-reach) / sd
		kernel[k] = exp(-x * x / 2)
		total += kernel[k]
	}
	for k := range kernel {
		kernel[k] /= total
	}
	return kernel
}

// coarse is a smooth picture on a grid of few cells.
type coarse struct {
	n           int
	cells, temp []float64
	counts      []int
}

// average sets the cells to the means of f over a picture of size x size pixels; a few samples a cell are enough.
func (c *coarse) average(picture []float64, size, n int, f func(float64) float64) {
	if c.n != n {
		*c = coarse{n, make([]float64, n*n), make([]float64, n*n), make([]int, n*n)}
	}
	clear(c.cells)
	clear(c.counts)
	step := max(1, size/(8*n))
	for row := 0; row < size; row += step {
		at := row * n / size * n
		for col := 0; col < size; col += step {
			c.cells[at+col*n/size] += f(picture[row*size+col])
			c.counts[at+col*n/size]++
		}
	}
	for i := range c.cells {
		c.cells[i] /= float64(max(1, c.counts[i]))
	}
}

// blur smooths the cells by a Gaussian of sd cells. Outside lies nothing.
func (c *coarse) blur(sd float64) {
	kernel := gaussian(sd)
	pass := func(in, out []float64, step, stride int) {
		for line := range c.n {
			for at := range c.n {
				acc := 0.0
				for k, w := range kernel {
					if from := at + k - len(kernel)/2; from >= 0 && from < c.n {
						acc += w * in[line*stride+from*step]
					}
				}
				out[line*stride+at*step] = acc
			}
		}
	}
	pass(c.cells, c.temp, 1, c.n)
	pass(c.temp, c.cells, c.n, 1)
}

// at is the value at a pixel of size x size, linear between the cells' centres.
func (c *coarse) at(row, col, size int) float64 {
	cells := float64(c.n) / float64(size)
	y, fy := c.cell(row, cells)
	x, fx := c.cell(col, cells)
	i := y*c.n + x
	return mix(mix(c.cells[i], c.cells[i+1], fx), mix(c.cells[i+c.n], c.cells[i+c.n+1], fx), fy)
}

// cell returns the cell left of (above) a pixel and the pixel's place between it and the next.
func (c *coarse) cell(pixel int, cells float64) (int, float64) {
	at := clamp((float64(pixel)+0.5)*cells-0.5, 0, float64(c.n-1))
	cell := min(int(at), c.n-2)
	return cell, at - float64(cell)
}
