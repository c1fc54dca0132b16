// Preprocess compares DICOM bytes to model input, 3000x2500 pixels of 16 bits by recipe "mimic" on one core: dicom/cxr
// against pydicom, NumPy and OpenCV. Run it from the repository's root:
//
//	go run ./benchmarks/preprocess
//
// Both inputs are compared first: they must be the same picture, but for OpenCV's rounding.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
)

const (
	rows, cols    = 3000, 2500
	perRound      = 10
	peer          = paired.Folder + "/preprocess/peer.py"
	peerVersions  = "import pydicom, numpy, cv2; print(f'pydicom {pydicom.__version__}, NumPy {numpy.__version__}, OpenCV {cv2.__version__}')"
	maxDifference = 1.01 / 255
)

func main() {
	rounds := flag.Int("rounds", 20, "rounds")
	worker := flag.String("worker", "", "be dicom/cxr's side, on this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *worker != "" {
		err = work(*worker)
	} else {
		err = run(ctx, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int) error {
	report := paired.NewReport("preprocess")
	python, err := paired.Python(paired.Folder)
	if err != nil {
		return err
	}
	if err := report.AskPeers(ctx, python, peerVersions); err != nil {
		return err
	}
	file, theirs := filepath.Join(paired.WorkDir, "large.dcm"), filepath.Join(paired.WorkDir, "peer.f32")
	if err := writeObject(file); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var contenders []paired.Contender
	for _, c := range []struct {
		name    string
		command []string
	}{
		{"cxr", []string{self, "-worker", file}},
		{"opencv", []string{python, peer, file, strconv.Itoa(perRound), theirs}},
	} {
		p, err := paired.Start(ctx, c.command[0], c.command[1:]...)
		if err != nil {
			return err
		}
		defer p.Close()
		contenders = append(contenders, paired.Contender{Name: c.name, Round: p.Round})
	}
	mean, largest, err := difference(file, theirs)
	if err != nil {
		return err
	}
	if largest > maxDifference {
		return fmt.Errorf("the inputs differ by up to %.4f: the programs do not do the same work", largest)
	}
	samples, err := paired.Run(ctx, os.Stderr, rounds, contenders...)
	if err != nil {
		return err
	}
	report.Parts["3000x2500"] = samples
	report.Printf("A native 3000x2500 16-bit object in memory to the [1,224,224] input, recipe mimic, one core; %d rounds of %d images.\n"+
		"Peer: %s. The inputs differ by mean %.2g, at most %.2g of 1 (OpenCV rounds its area average in float32).\n\n"+
		"| | ms an image | CPU ms an image |\n|---|---|---|\n", rounds, perRound, report.Peers["Python"], mean, largest)
	for _, name := range []string{"cxr", "opencv"} {
		report.Printf("| %s | %v | %v |\n", name, samples.Of(name, func(s paired.Sample) float64 { return 1000 / s.Rate() }),
			samples.Of(name, func(s paired.Sample) float64 { return 1000 / s.PerCPU() }))
	}
	report.Printf("| **times faster** | **%v** | **%v** |\n", samples.Ratio("cxr", "opencv", paired.Sample.Rate), samples.Ratio("cxr", "opencv", paired.Sample.PerCPU))
	return report.Write()
}

// work is dicom/cxr's side, on one core as the peer.
func work(file string) error {
	runtime.GOMAXPROCS(1)
	object, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	w := paired.Worker{PerRound: perRound, Amount: perRound}
	for {
		if _, err := input(object); err != nil {
			return err
		}
		if !w.Done() {
			return nil
		}
	}
}

func input(object []byte) ([]float32, error) {
	image, err := cxr.FromDICOM(object, cxr.Mimic, dicom.DefaultLimits())
	if err != nil {
		return nil, err
	}
	dst := make([]float32, cxr.CropSize*cxr.CropSize)
	cxr.Input(image.Stored, cxr.CropSize, dst)
	return dst, nil
}

// difference is how far our input of an object is from the peer's, on the mean and at most.
func difference(file, theirs string) (mean, largest float64, err error) {
	object, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	ours, err := input(object)
	if err != nil {
		return 0, 0, err
	}
	raw, err := os.ReadFile(theirs)
	if err != nil {
		return 0, 0, err
	}
	if len(raw) != 4*len(ours) {
		return 0, 0, fmt.Errorf("the peer's input has %d bytes, ours %d", len(raw), 4*len(ours))
	}
	for i, x := range ours {
		d := math.Abs(float64(x) - float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))))
		mean += d / float64(len(ours))
		largest = max(largest, d)
	}
	return mean, largest, nil
}

// writeObject writes a radiograph of smooth shapes with noise, 16 bits stored.
func writeObject(path string) error {
	rng := rand.New(rand.NewPCG(1, 2))
	pixels := make([]byte, 2*rows*cols)
	for i := range rows * cols {
		x, y := float64(i%cols)/cols, float64(i/cols)/rows
		v := 30000 + 20000*math.Sin(7*x)*math.Cos(5*y) + 400*rng.NormFloat64()
		binary.LittleEndian.PutUint16(pixels[2*i:], uint16(v))
	}
	var file bytes.Buffer
	err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: "1.2.3.1"},
		{Tag: tag.StudyInstanceUID, Value: "1.2.3"}, {Tag: tag.SeriesInstanceUID, Value: "1.2.3.4"},
		{Tag: tag.Modality, Value: "DX"}, {Tag: tag.BodyPartExamined, Value: "CHEST"}, {Tag: tag.ViewPosition, Value: "PA"},
		{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.Rows, Value: rows}, {Tag: tag.Columns, Value: cols},
		{Tag: tag.BitsAllocated, Value: 16}, {Tag: tag.BitsStored, Value: 16}, {Tag: tag.HighBit, Value: 15},
		{Tag: tag.PixelRepresentation, Value: 0}, {Tag: tag.PixelData, VR: "OW", Value: pixels},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, file.Bytes(), 0o644)
}
