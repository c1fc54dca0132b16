package serve

import (
	"bytes"
	"encoding/base64"
	goimage "image"
	"image/color"
	"image/png"
	"math"
)

// overlay is a PNG, as a data URL, of the square image that the model saw, with the attention [rows][columns] laid over
// it: what holds more than its even share turns red, up to full strength at the patch that holds most. Between the patches'
// centres it is interpolated.
func overlay(seen []uint8, attention [][]float32) (string, error) {
	size := int(math.Sqrt(float64(len(seen))))
	rows, columns := len(attention), len(attention[0])
	even, most := 1/float32(rows*columns), float32(0)
	for _, row := range attention {
		for _, a := range row {
			most = max(most, a)
		}
	}
	img := goimage.NewRGBA(goimage.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			g := float32(seen[y*size+x])
			heat := float32(0)
			if most > even {
				a := interpolated(attention, patchAt(y, size, rows), patchAt(x, size, columns))
				heat = min(max((a-even)/(most-even), 0), 1) * 0.6 // the picture stays visible below
			}
			other := uint8(g*(1-heat) + 0.5)
			img.SetRGBA(x, y, color.RGBA{uint8(g + (255-g)*heat + 0.5), other, other, 255})
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		return "", err
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(file.Bytes()), nil
}

// patchAt is where the centre of pixel i of size lies among n patches, in patches' centres from the first.
func patchAt(i, size, n int) float32 {
	at := (float32(i)+0.5)*float32(n)/float32(size) - 0.5
	return min(max(at, 0), float32(n-1))
}

// interpolated is the value at a place between patches, linear in both directions.
func interpolated(a [][]float32, y, x float32) float32 {
	top, left := int(y), int(x)
	bottom, right := min(top+1, len(a)-1), min(left+1, len(a[0])-1)
	y, x = y-float32(top), x-float32(left)
	return (1-y)*((1-x)*a[top][left]+x*a[top][right]) + y*((1-x)*a[bottom][left]+x*a[bottom][right])
}
