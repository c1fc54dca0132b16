package synth

import (
	"image"
	"image/color"
	"math"
	"strings"
)

// The columns of a sheet: gross findings.
var gross = []struct{ name, label, kind string }{
	{"normal", "", ""},
	{"effusion", "Pleural Effusion", "fluid"},
	{"pneumothorax", "Pneumothorax", "air"},
	{"large heart", "Cardiomegaly", "large heart"},
	{"oedema", "Edema", "oedema"},
	{"consolidation", "Consolidation", "dense region"},
	{"mass", "Lung Lesion", "mass"},
	{"atelectasis", "Atelectasis", "volume loss"},
	{"pacemaker", "Support Devices", "pacemaker"},
}

const (
	thumb     = 132 // pixels a side of a picture on the sheet
	caption   = 14  // pixels of a line of text
	sheetGrey = 32  // levels, so that the file stays small
)

// Sheet draws a contact sheet of the world: gross findings in columns; in rows every projection as the plain institution takes it, then
// the four institutions' postero-anterior views. A column is one patient.
func Sheet() *image.Paletted {
	var rows []struct {
		name string
		at   *Institution
		p    Projection
	}
	add := func(name string, at *Institution, p Projection) {
		rows = append(rows, struct {
			name string
			at   *Institution
			p    Projection
		}{name, at, p})
	}
	for _, p := range Projections {
		add(string(p), &Plain, p)
	}
	for i := range Institutions {
		add(Institutions[i].Name+" PA", &Institutions[i], PA)
	}
	palette := make(color.Palette, sheetGrey)
	for i := range palette {
		palette[i] = color.Gray{uint8(i * 255 / (sheetGrey - 1))}
	}
	img := image.NewPaletted(image.Rect(0, 0, len(gross)*thumb, caption+len(rows)*(thumb+caption)), palette)
	r := newRenderer(2 * thumb)
	for col, g := range gross {
		write(img, g.name, col*thumb, 0)
		for i, row := range rows {
			top := caption + i*(thumb+caption)
			if col == 0 {
				write(img, row.name, 0, top)
			}
			s := example(row.at, uint64(col), row.p, g.label, g.kind)
			paste(img, s.render(r, &s.Views[0]), s.Views[0].Bits(), col*thumb, top+caption)
		}
	}
	return img
}

// example is a study of one view of a patient with one gross finding, or none if label is empty.
func example(at *Institution, seed uint64, projection Projection, label, kind string) *Study {
	p := NewPatient(at, seed, 1)
	s := &Study{Patient: p, anatomy: p.anatomy}
	if label != "" {
		f := placed(p, label, kind)
		f.Severity = 0.9
		s.Findings = []Finding{f}
	}
	v := newView(p, projection, stream(seed, streamView))
	v.inverted = false
	s.Views = []View{v}
	return s
}

// placed draws a finding of a kind in a patient's body; an opacity lies in the open, not beside the heart.
func placed(p *Patient, label, kind string) Finding {
	for try := p.index; ; try++ {
		d := newDrawer(stream(try, streamFinding), &p.anatomy)
		d.draw(label, map[string]bool{label: true})
		f := d.found[0]
		inLung := label == "Lung Lesion" || label == "Consolidation"
		if f.Kind == kind && (!inLung || math.Abs(f.X) > 50 && f.Z > -30) {
			return f
		}
	}
}

// paste puts a picture of twice the size of a thumb on the sheet.
func paste(img *image.Paletted, pixels []uint16, bits, x, y int) {
	const size = 2 * thumb
	for row := range thumb - 1 {
		for col := range thumb - 1 {
			i := 2*row*size + 2*col
			mean := (float64(pixels[i]) + float64(pixels[i+1]) + float64(pixels[i+size]) + float64(pixels[i+size+1])) / 4
			img.SetColorIndex(x+col, y+row, uint8(mean*sheetGrey/float64(int(1)<<bits)))
		}
	}
}

// write puts a line of text on the sheet.
func write(img *image.Paletted, text string, x, y int) {
	for i, letter := range []rune(strings.ToUpper(text)) {
		for row, dots := range glyphs[letter] {
			for col := range 5 {
				if dots>>(4-col)&1 == 1 {
					img.SetColorIndex(x+4+7*i+col, y+4+row, sheetGrey-1)
				}
			}
		}
	}
}
