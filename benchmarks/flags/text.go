package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/dicom/cxr"
)

// words are the images of ChestX-ray14 in which somebody who looked at all 410 saw a word of six letters or more, written along
// the rows: PORTABLE, beside shorter ones and side markers, which nearly all images have.
//
//go:embed words.txt
var words string

// font has the letters of the texts below, 5 x 7.
var font = map[rune][7]string{
	'A': {" ### ", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"},
	'D': {"#### ", "#   #", "#   #", "#   #", "#   #", "#   #", "#### "},
	'E': {"#####", "#    ", "#    ", "#### ", "#    ", "#    ", "#####"},
	'H': {"#   #", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"},
	'J': {"  ###", "   # ", "   # ", "   # ", "   # ", "#  # ", " ##  "},
	'L': {"#    ", "#    ", "#    ", "#    ", "#    ", "#    ", "#####"},
	'N': {"#   #", "##  #", "# # #", "#  ##", "#   #", "#   #", "#   #"},
	'O': {" ### ", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "},
	'P': {"#### ", "#   #", "#   #", "#### ", "#    ", "#    ", "#    "},
	'0': {" ### ", "#   #", "#  ##", "# # #", "##  #", "#   #", " ### "},
	'1': {"  #  ", " ##  ", "  #  ", "  #  ", "  #  ", "  #  ", " ### "},
	'5': {"#####", "#    ", "#### ", "    #", "    #", "#   #", " ### "},
	'9': {" ### ", "#   #", "#   #", " ####", "    #", "   # ", " ##  "},
	' ': {"     ", "     ", "     ", "     ", "     ", "     ", "     "},
}

// write puts a text in white into the upper left corner, pitch pixels from letter to letter: sampled finely and averaged, as text
// in millions of pixels is when they are made few.
func (p picture) write(text string, pitch float64) picture {
	const fine, top, left = 8, 14, 12
	return p.change(func(y, x int) byte {
		inked := 0
		for i := range fine * fine {
			// In units of the font, a letter is 6 wide with the gap behind it.
			u := (float64(x-left) + (float64(i%fine)+0.5)/fine) * 6 / pitch
			v := (float64(y-top) + (float64(i/fine)+0.5)/fine) * 6 / pitch
			if letter := int(u / 6); u >= 0 && v >= 0 && v < 7 && letter < len(text) && int(u)%6 < 5 {
				if font[rune(text[letter])][int(v)][int(u)%6] == '#' {
					inked++
				}
			}
		}
		was := int(p.at(y, x))
		return byte(was + (255-was)*inked/(fine*fine))
	})
}

// textTable adds the rows of burned_in: of pictures as they are, with a marker, with a name in letters of several sizes.
func textTable(group string, pictures []picture, view cxr.View) error {
	for _, word := range []bool{true, false} {
		of := slices.DeleteFunc(slices.Clone(pictures), func(p picture) bool { return p.word != word })
		if len(of) == 0 {
			continue
		}
		add := func(name string, change func(picture) picture) error {
			counts, err := count(of, change, view)
			if err == nil {
				row(group, name, cxr.FlagBurnedIn, counts[cxr.FlagBurnedIn], len(of))
			}
			return err
		}
		if word {
			if err := add("as it is, with a word", func(p picture) picture { return p }); err != nil {
				return err
			}
			continue
		}
		if err := add("as it is, without a word", func(p picture) picture { return p }); err != nil {
			return err
		}
		for _, t := range []struct {
			text    string
			pitches []float64
		}{{"L", []float64{5, 10, 20}}, {"AP", []float64{5, 10}}, {"JOHN DOE 1950 PA", []float64{1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12}}} {
			for _, pitch := range t.pitches {
				name := fmt.Sprintf("%s in letters of %g pixels", strings.TrimSpace(t.text), pitch)
				if err := add(name, func(p picture) picture { return p.write(t.text, pitch) }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
