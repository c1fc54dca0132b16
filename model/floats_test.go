package model

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadSafetensors_NumbersOfEveryType(t *testing.T) {
	for _, c := range []struct {
		dtype, bytes string
		want         []float32
	}{
		{"F64", "\x00\x00\x00\x00\x00\x00\xf8\x3f", []float32{1.5}},
		{"F32", "\x00\x00\xc0\xbf", []float32{-1.5}},
		// One; the largest; the smallest normal and subnormal; minus zero; infinity.
		{"F16", "\x00\x3c\xff\x7b\x00\x04\x01\x00\x00\x80\x00\x7c", []float32{1, 65504, 1.0 / (1 << 14), 1.0 / (1 << 24), float32(math.Copysign(0, -1)), float32(math.Inf(1))}},
		{"BF16", "\x80\x3f\x40\xc0", []float32{1, -3}},
		{"I64", "\xff\xff\xff\xff\xff\xff\xff\xff", []float32{-1}}, {"I32", "\x00\x01\x00\x00", []float32{256}}, {"I16", "\xfe\xff", []float32{-2}},
		{"I8", "\x80", []float32{-128}}, {"U8", "\x80", []float32{128}}, {"BOOL", "\x01\x00", []float32{1, 0}},
	} {
		t.Run(c.dtype, func(t *testing.T) {
			path := safetensorsFile(t, c.dtype, len(c.want), c.bytes)
			got, _, err := ReadSafetensors(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Tensors{"w": {Dims: []int{len(c.want)}, Data: c.want}}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, _, err := ReadSafetensors(safetensorsFile(t, "F8_E4M3", 1, "\x00")); err == nil || !strings.Contains(err.Error(), "tensor w has type F8_E4M3") {
		t.Errorf("an unknown type: error %v", err)
	}
}

// safetensorsFile holds one tensor "w".
func safetensorsFile(t *testing.T, dtype string, n int, data string) string {
	t.Helper()
	header := fmt.Sprintf(`{"w":{"dtype":%q,"shape":[%d],"data_offsets":[0,%d]}}`, dtype, n, len(data))
	doc := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+data...)
	path := filepath.Join(t.TempDir(), "one.safetensors")
	if err := os.WriteFile(path, doc, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
