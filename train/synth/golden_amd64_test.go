package synth

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"testing"
)

// goldenDigest is of the pictures of every projection and institution. It changes when the world does, and with nothing else.
const goldenDigest = "3b4ed7bd18d5275533fef7e8823c9c9c115e9087cc7686035f3a44fd76cba6b4"

func TestRenderView_GoldenBytes(t *testing.T) {
	sum := sha256.New()
	for i, at := range institutions() {
		for _, projection := range Projections {
			s := example(at, uint64(i), projection, gross[i+1].label, gross[i+1].kind)
			pixels := RenderView(s, 0, 160)
			if err := binary.Write(sum, binary.LittleEndian, pixels); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range []*Study{NewStudy(NewPatient(&Plain, 1, 0), 0), NewStudy(NewPatient(&Plain, 2, 7), 1)} {
		if err := binary.Write(sum, binary.LittleEndian, RenderView(s, 0, 128)); err != nil {
			t.Fatal(err)
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != goldenDigest {
		t.Errorf("digest of the pictures is %s, want %s", got, goldenDigest)
	}
}

// A processor without fused multiply-add, AVX and the like: the standard library's math.Exp gives other bits there.
func TestRenderView_SameBytesOnAnOldProcessor(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestRenderView_GoldenBytes$")
	cmd.Env = append(os.Environ(), "GODEBUG=cpu.all=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
