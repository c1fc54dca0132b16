package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"mime/multipart"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/suyashkumar/dicom/pkg/tag"
	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom"
)

// timeKey begins the keys of a sample's times.
const timeKey = "ms "

// times are the times of all studies of all rounds.
func times(samples []paired.Sample) (all []float64) {
	for _, s := range samples {
		for key, ms := range s.Extra {
			if strings.HasPrefix(key, timeKey) {
				all = append(all, ms)
			}
		}
	}
	return all
}

// load does n studies with a number of clients, each one after the other, and gives their times in ms.
func load(ctx context.Context, clients, n int, study func(context.Context) error) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	todo := make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	times := make([]float64, n)
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			for i := range todo {
				start := time.Now()
				if err := study(ctx); err != nil {
					return err
				}
				times[i] = float64(time.Since(start).Microseconds()) / 1000
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	extra := map[string]float64{}
	for i, ms := range times {
		extra[timeKey+strconv.Itoa(i)] = ms
	}
	return extra, nil
}

// cores limits what runs at a time to the number of cores.
type cores chan struct{}

func newCores() cores { return make(cores, runtime.NumCPU()) }

// both runs the two views of a study.
func (c cores) both(view func(int) error) error {
	var group errgroup.Group
	for i := range 2 {
		group.Go(func() error {
			c <- struct{}{}
			defer func() { <-c }()
			return view(i)
		})
	}
	return group.Wait()
}

// makeStudy is the multipart body of a study of so many views, square.
func makeStudy(views, side int) ([]byte, error) {
	files, err := makeFiles(views, side)
	if err != nil {
		return nil, err
	}
	return form(files...)
}

func makeFiles(views, side int) (files [][]byte, err error) {
	for i, position := range []string{"PA", "LL"}[:views] {
		var file bytes.Buffer
		if err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, object(i, side, position)); err != nil {
			return nil, err
		}
		files = append(files, file.Bytes())
	}
	return files, nil
}

// form is the multipart body of files.
func form(files ...[]byte) ([]byte, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.SetBoundary("benchmark"); err != nil {
		return nil, err
	}
	for i, file := range files {
		part, err := form.CreateFormFile("file", strconv.Itoa(i)+".dcm")
		if err != nil {
			return nil, err
		}
		if _, err := part.Write(file); err != nil {
			return nil, err
		}
	}
	err := form.Close()
	return body.Bytes(), err
}

// object is a picture of smooth shapes with noise.
func object(i, side int, position string) []dicom.Element {
	rng := rand.New(rand.NewPCG(uint64(i), 2))
	pixels := make([]byte, 2*side*side)
	for p := range side * side {
		x, y := float64(p%side)/float64(side), float64(p/side)/float64(side)
		v := 30000 + 20000*math.Sin(float64(7+i)*x)*math.Cos(5*y) + 400*rng.NormFloat64()
		binary.LittleEndian.PutUint16(pixels[2*p:], uint16(v))
	}
	return []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: fmt.Sprint("1.2.3.", i+1)},
		{Tag: tag.StudyInstanceUID, Value: "1.2.3"}, {Tag: tag.SeriesInstanceUID, Value: "1.2.3.4"}, {Tag: tag.PatientID, Value: "1"},
		{Tag: tag.Modality, Value: "DX"}, {Tag: tag.BodyPartExamined, Value: "CHEST"}, {Tag: tag.ViewPosition, Value: position},
		{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.Rows, Value: side}, {Tag: tag.Columns, Value: side},
		{Tag: tag.BitsAllocated, Value: 16}, {Tag: tag.BitsStored, Value: 16}, {Tag: tag.HighBit, Value: 15},
		{Tag: tag.PixelRepresentation, Value: 0}, {Tag: tag.PixelData, VR: "OW", Value: pixels},
	}
}
