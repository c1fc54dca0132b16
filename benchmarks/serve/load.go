package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/suyashkumar/dicom/pkg/tag"
	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom"
)

// load does n studies with a number of clients, each one after the other, and gives the median and 95th percentile of
// their times in ms.
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
	return map[string]float64{"p50": paired.Quantile(times, 0.5), "p95": paired.Quantile(times, 0.95)}, nil
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

// server is a program that answers studies on a loopback address.
type server struct {
	cmd *exec.Cmd
	url string
	log string // file of what it writes to standard error
}

const contentType = "multipart/form-data; boundary=benchmark"

// start starts a server, which writes its URL as its first line when it is ready.
func start(ctx context.Context, program string, args ...string) (*server, error) {
	s := &server{cmd: exec.CommandContext(ctx, program, args...), log: filepath.Join(paired.WorkDir, filepath.Base(program)+".log")}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stderr = log
	s.cmd.Env = append(os.Environ(), "GIN_MODE=release")
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return nil, fmt.Errorf("%s ended before it was ready, see %s: %w", program, s.log, s.cmd.Wait())
	}
	s.url = lines.Text()
	u, err := url.Parse(s.url)
	if ip := net.ParseIP(u.Hostname()); err != nil || ip == nil || !ip.IsLoopback() {
		s.stop()
		return nil, fmt.Errorf("%s does not listen on loopback: %q", program, s.url)
	}
	return s, nil
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// classify sends one study.
func (s *server) classify(ctx context.Context, study []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/studies:classify", bytes.NewReader(study))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s, see %s: %.300s", resp.Status, s.log, doc)
	}
	return doc, err
}

// round is one round of load.
func (s *server) round(ctx context.Context, clients int, study []byte) (paired.Sample, error) {
	before, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return paired.Sample{}, err
	}
	began, n := time.Now(), studiesOf[clients]
	extra, err := load(ctx, clients, n, func(ctx context.Context) error {
		_, err := s.classify(ctx, study)
		return err
	})
	if err != nil {
		return paired.Sample{}, err
	}
	sample := paired.Sample{Seconds: time.Since(began).Seconds(), Done: float64(n), Extra: extra}
	after, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return sample, err
	}
	sample.CPUSeconds = after - before
	extra["rss"], err = residentMB(s.cmd.Process.Pid)
	return sample, err
}

// cpuSeconds is the user and system time of a process and of its children that have ended, the decoders, in the kernel's ticks of 1/100 s.
func cpuSeconds(pid int) (float64, error) {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(doc[bytes.LastIndexByte(doc, ')')+1:])) // from field 3, the state
	ticks := 0.0
	for _, field := range fields[11:15] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return ticks / 100, nil
}

// residentMB is a process's resident memory.
func residentMB(pid int) (float64, error) {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(doc)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kb / 1000, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", pid)
}

// makeStudy is the multipart body of a study of two views.
func makeStudy() ([]byte, error) {
	var files [2][]byte
	for i, position := range []string{"PA", "LL"} {
		var file bytes.Buffer
		if err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, object(i, position)); err != nil {
			return nil, err
		}
		files[i] = file.Bytes()
	}
	return form(files[:]...)
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
func object(i int, position string) []dicom.Element {
	const side = 2048
	rng := rand.New(rand.NewPCG(uint64(i), 2))
	pixels := make([]byte, 2*side*side)
	for p := range side * side {
		x, y := float64(p%side)/side, float64(p/side)/side
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
