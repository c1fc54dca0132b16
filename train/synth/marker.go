package synth

import "math/rand/v2"

// mark is a text burned into a picture, as a technologist's lead letters are.
type mark struct {
	text   string
	x, y   float64 // of its upper left corner from the picture's middle, mm
	height float64 // of a letter, mm
}

// glyphs are letters of 5 x 7 dots, a row a byte, the left dot highest.
var glyphs = map[rune][7]byte{
	'A': {0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}, 'B': {0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e},
	'C': {0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e}, 'D': {0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e},
	'E': {0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f}, 'F': {0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10},
	'G': {0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f}, 'H': {0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11},
	'I': {0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e}, 'L': {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f},
	'K': {0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11}, 'M': {0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11},
	'N': {0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11}, 'O': {0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e},
	'P': {0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10}, 'R': {0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11},
	'S': {0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e}, 'T': {0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04},
	'U': {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e}, 'V': {0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04},
	'X': {0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11}, '-': {0, 0, 0, 0x0e, 0, 0, 0}, ' ': {},
}

const advance = 6. / 7 // from letter to letter, of the height

// marks draws what a view of an institution carries. The side's letter lies over the shoulder it names.
func (m *Markers) marks(rng *rand.Rand, v *View) (out []mark) {
	side, left := rng.Float64() < m.Side, rng.Float64() < m.Left
	x, y := mix(120, 150, rng.Float64()), -mix(135, 165, rng.Float64())
	told := rng.Float64() < m.Position
	if side {
		switch {
		case v.Projection == LL:
			out = append(out, mark{"L", x - 10, y, m.HeightMM})
		case left:
			out = append(out, mark{"L", x - 10, y, m.HeightMM})
		default:
			out = append(out, mark{"R", -x, y, m.HeightMM})
		}
	}
	if text := m.word(v.Projection); told && text != "" {
		small := m.HeightMM * 0.7
		out = append(out, mark{text, -x, y + 1.6*m.HeightMM, small})
	}
	return out
}

// word is what an institution writes on a view.
func (m *Markers) word(p Projection) string {
	switch p {
	case AP:
		return m.Supine
	case RAO, LAO:
		return string(p)
	}
	return ""
}

// burn draws the text at full brightness into a picture of size x size pixels of a pitch.
func (m mark) burn(out []uint16, size int, pitchMM float64, full uint16) {
	dot := m.height / 7
	at := func(mm float64) int { return int(clamp(mm/pitchMM+float64(size)/2, 0, float64(size))) }
	letters := []rune(m.text)
	const fine = 3 // samples a pixel, each way
	for row := at(m.y); row < at(m.y+m.height+pitchMM); row++ {
		for col := at(m.x); col < at(m.x+float64(len(letters))*advance*m.height+pitchMM); col++ {
			covered := 0
			for k := range fine * fine {
				y := ((float64(row)+(float64(k/fine)+0.5)/fine)-float64(size)/2)*pitchMM - m.y
				x := ((float64(col)+(float64(k%fine)+0.5)/fine)-float64(size)/2)*pitchMM - m.x
				if x < 0 || y < 0 {
					continue
				}
				letter, line, dotAt := int(x/(advance*m.height)), int(y/dot), 0
				if letter >= len(letters) || line > 6 {
					continue
				}
				if dotAt = int((x - float64(letter)*advance*m.height) / dot); dotAt < 5 && glyphs[letters[letter]][line]>>(4-dotAt)&1 == 1 {
					covered++
				}
			}
			p := &out[row*size+col]
			*p = uint16(mix(float64(*p), float64(full), float64(covered)/(fine*fine)))
		}
	}
}
