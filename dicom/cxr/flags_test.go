package cxr

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// realPixels is the real chest, every fourth pixel of it: 535 x 440 values of 10 bits, low ones bright.
func realPixels(t testing.TB) picture {
	t.Helper()
	f, err := dicom.Parse(realChest(t), dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	pixels, err := f.Pixels()
	if err != nil {
		t.Fatal(err)
	}
	plane, err := codec.Decode(pixels)
	if err != nil {
		t.Fatal(err)
	}
	p := picture{plane.Rows / 4, plane.Columns / 4, nil}
	for i, v := range plane.Values() {
		if y, x := i/plane.Columns, i%plane.Columns; y%4 == 0 && x%4 == 0 {
			p.values = append(p.values, int(v))
		}
	}
	return p
}

// turnedRight is the picture turned clockwise by a quarter.
func turnedRight(p picture) picture {
	out := picture{p.columns, p.rows, nil}
	for y := range out.rows {
		for x := range out.columns {
			out.values = append(out.values, p.values[(p.rows-1-x)*p.columns+y])
		}
	}
	return out
}

func changed(p picture, value func(y, x, v int) int) picture {
	out := picture{p.rows, p.columns, nil}
	for i, v := range p.values {
		out.values = append(out.values, value(i/p.columns, i%p.columns, v))
	}
	return out
}

func TestFlags_OfARealChest(t *testing.T) {
	p := realPixels(t)
	// "R", "AP" and then "Portable" and "UPRIGHT" are written in it; without the words:
	markers := changed(p, func(y, x, v int) int {
		if y > 33 && y < 73 && x < 80 {
			return 700
		}
		return v
	})
	quarter := turnedRight(p)
	half := turnedRight(quarter)
	for _, c := range []struct {
		name  string
		elems []dicom.Element
		want  []string
	}{
		{"as it is", chest(p, 10, false, "MONOCHROME1"), []string{FlagBurnedIn}},
		{"without view", with(chest(p, 10, false, "MONOCHROME1"), text(tag.ViewPosition, "")), []string{FlagBurnedIn}},
		{"markers only", chest(markers, 10, false, "MONOCHROME1"), nil},
		{"low values taken for dark", chest(p, 10, false, "MONOCHROME2"), []string{FlagBurnedIn, FlagInverted}},
		{"on its side", chest(quarter, 10, false, "MONOCHROME1"), []string{FlagRotated}},
		{"upside down", chest(half, 10, false, "MONOCHROME1"), []string{FlagBurnedIn, FlagRotated}},
		{"on the other side", chest(turnedRight(half), 10, false, "MONOCHROME1"), []string{FlagRotated}},
		{"both", chest(quarter, 10, false, "MONOCHROME2"), []string{FlagInverted, FlagRotated}},
		{"said to have text in it", with(chest(markers, 10, false, "MONOCHROME1"), text(tag.BurnedInAnnotation, "yes ")), []string{FlagBurnedIn}},
		{"said to have none", with(chest(p, 10, false, "MONOCHROME1"), text(tag.BurnedInAnnotation, "NO")), []string{FlagBurnedIn}},
		{"one bright pixel", chest(changed(markers, func(y, x, v int) int {
			if y+x == 0 {
				return 1 << 15
			}
			return v
		}), 16, false, "MONOCHROME1"), []string{FlagLowContrast}},
		{"shutter", chest(changed(markers, func(y, x, v int) int {
			if y < p.rows/14 || y > p.rows-p.rows/13 || x < 20 {
				return 1023
			}
			return v
		}), 10, false, "MONOCHROME1"), []string{FlagCropped}},
		{"empty side", chest(changed(p, func(y, x, v int) int {
			if x < p.columns/6 {
				return 1023
			}
			return v
		}), 10, false, "MONOCHROME1"), nil},
		{"strip", chest(picture{p.rows / 2, p.columns * 2, p.values[:p.rows/2*p.columns*2]}, 10, false, "MONOCHROME1"), []string{FlagCropped}},
	} {
		for _, r := range []Recipe{Mimic, Display} {
			got := mustRead(t, r, c.elems).Flags
			if c.name == "strip" { // rows two by two: what it looks like is no matter
				got = slices.DeleteFunc(got, func(f string) bool { return f != FlagCropped })
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, %s: flags (-want +got)\n%s", c.name, r, diff)
			}
		}
	}
}

// A picture that looks as a template does is of its view, whatever the header says. No real lateral is in every clone.
func TestFlags_ViewMismatch(t *testing.T) {
	const field = StoredSize / glanceSize
	for _, c := range []struct {
		template *template
		position string
		want     []string
	}{
		{&lateralTemplate, "LL", nil}, {&lateralTemplate, "", nil}, {&lateralTemplate, "PA", []string{FlagViewMismatch}},
		{&frontalTemplate, "PA", nil}, {&frontalTemplate, "", nil}, {&frontalTemplate, "LL", []string{FlagViewMismatch}},
	} {
		p := picture{StoredSize, StoredSize, nil}
		for y := range p.rows {
			for x := range p.columns {
				p.values = append(p.values, 2000+int(c.template[y/field*glanceSize+x/field]))
			}
		}
		img := mustRead(t, Mimic, with(chest(p, 12, false, "MONOCHROME2"), text(tag.ViewPosition, c.position)))
		if diff := cmp.Diff(c.want, img.Flags); diff != "" {
			t.Errorf("lateral %t, position %q: flags (-want +got)\n%s", c.template == &lateralTemplate, c.position, diff)
		}
	}
}

// What is no chest must not be called a turned or an inverted one.
func TestGlance_OfNothing(t *testing.T) {
	flat, noise := make([]byte, StoredSize*StoredSize), make([]byte, StoredSize*StoredSize)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for name, stored := range map[string][]byte{"one value": flat, "noise": noise} {
		if got := glimpse(stored); got != (seen{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if NewGlance(flat) != (Glance{}) {
		t.Error("there is something to see in one value")
	}
}
