// Pacs compares what receives objects over DICOM: mvmae's SCP with its durable store, DCMTK's storescp and Orthanc. DCMTK's
// storescu sends each the same 50 objects of 10 MB on one association. Run it from the repository's root, after "make peers":
//
//	go run ./benchmarks/pacs
//
// Each round starts every server anew on an empty folder and afterwards compares what is there with what was sent.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve/studies"
	"github.com/mvmae/mvmae/test/peers/dimse"
)

const (
	objects   = 50
	side      = 2236 // pixels: 10 MB
	sopClass  = "1.2.840.10008.5.1.4.1.1.1.1"
	aeTitle   = "BENCH"
	pduBytes  = 131072 // DCMTK's largest
	certFile  = "cert.pem"
	keyFile   = "key.pem"
	megabytes = 1e6
)

func main() {
	rounds := flag.Int("rounds", 10, "rounds")
	receive := flag.String("receive", "", "be the SCP, with its store in this folder")
	secure := flag.Bool("tls", false, "speak TLS, with -receive")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *receive != "" {
		err = serve(ctx, *receive, *secure)
	} else {
		err = run(ctx, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if h := hint.Of(err); h != "" {
			fmt.Fprintln(os.Stderr, "hint:", h)
		}
		os.Exit(1)
	}
}

// serve is mvmae's side: the SCP and the store of mvmae-serve up. It says its port.
func serve(ctx context.Context, dir string, secure bool) error {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	store, err := studies.Open(dir, studies.Options{})
	if err != nil {
		return err
	}
	opt := pacs.Options{AETitle: aeTitle, Archive: &studies.Archive{Store: store, Gate: studies.NewGate(time.Hour, time.Hour)}}
	if secure {
		cert, err := tls.LoadX509KeyPair(filepath.Join(paired.WorkDir, certFile), filepath.Join(paired.WorkDir, keyFile))
		if err != nil {
			return err
		}
		opt.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	server, err := pacs.NewServer(opt)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	return server.Serve(ctx, ln)
}

// contender is a receiver and how it is started on an empty folder.
type contender struct {
	name, what string
	secure     bool
	start      func(ctx context.Context, dir string) (*dimse.Process, error)
	ext        string // of the files that it keeps objects in; "" is a file of the object's size
}

func contenders(self string) []contender {
	cert, key := filepath.Join(paired.WorkDir, certFile), filepath.Join(paired.WorkDir, keyFile)
	own := func(args ...string) func(context.Context, string) (*dimse.Process, error) {
		return func(ctx context.Context, dir string) (*dimse.Process, error) {
			return dimse.Launch(ctx, aeTitle, self, append([]string{"-receive", dir}, args...)...)
		}
	}
	dcmtk := func(args ...string) func(context.Context, string) (*dimse.Process, error) {
		return func(ctx context.Context, dir string) (*dimse.Process, error) {
			return dimse.StoreSCP(ctx, aeTitle, dir, append([]string{"-pdu", strconv.Itoa(pduBytes)}, args...)...)
		}
	}
	orthanc := func(ctx context.Context, dir string) (*dimse.Process, error) {
		o, err := dimse.StartOrthanc(ctx, dir, map[string]any{"DicomAet": aeTitle, "MaximumPduLength": pduBytes, "HttpServerEnabled": false})
		if err != nil {
			return nil, err
		}
		return &o.Process, nil
	}
	return []contender{
		{"mvmae", "fsync of file and folder", false, own(), ".dcm"},
		{"storescp", "no fsync", false, dcmtk(), ""},
		{"orthanc", "SyncStorageArea, its default: fsync", false, orthanc, ""},
		{"mvmae, TLS", "the same", true, own("-tls"), ".dcm"},
		{"storescp, TLS", "no fsync", true, dcmtk("+tls", key, cert, "-ic"), ""},
	}
}

func run(ctx context.Context, rounds int) error {
	if err := dimse.Find(); err != nil {
		return err
	}
	report := paired.NewReport("pacs")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(paired.WorkDir, 0o755); err != nil {
		return err
	}
	files, size, err := writeObjects(filepath.Join(paired.WorkDir, "pacs-objects"))
	if err != nil {
		return err
	}
	if err := writeCertificate(); err != nil {
		return err
	}
	for name, args := range map[string][]string{"DCMTK": {"storescp", "--version"}, "Orthanc": {"Orthanc", "--version"}} {
		out, err := dimse.Run(ctx, args[0], args[1:]...)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(out), "$dcmtk: "), "\n")
		report.Peers[name] = first
	}
	all := contenders(self)
	var sides []paired.Contender
	for _, c := range all {
		sides = append(sides, paired.Contender{Name: c.name, Round: func(ctx context.Context) (paired.Sample, error) { return c.round(ctx, files, size) }})
	}
	samples, err := paired.Run(ctx, os.Stderr, rounds, sides...)
	if err != nil {
		return err
	}
	report.Parts["50 x 10 MB"] = samples
	write(report, samples, all, rounds, size)
	return report.Write()
}

func write(report *paired.Report, samples paired.Samples, all []contender, rounds int, size int64) {
	report.Printf("DCMTK's storescu sends %d objects of %.1f MB on one association over the loopback; %d rounds, each server started anew on an empty folder.\n"+
		"Peers: %s; Orthanc %s. PDUs of %d bytes for all. What arrived was compared in number and size.\n\n"+
		"| receiver | on disk before it answers | MB/s | CPU s per GB, receiver | peak RSS, MiB |\n|---|---|---|---|---|\n",
		objects, float64(size)/megabytes, rounds, report.Peers["DCMTK"], report.Peers["Orthanc"], pduBytes)
	for _, c := range all {
		report.Printf("| %s | %s | %v | %v | %v |\n", c.name, c.what, samples.Of(c.name, paired.Sample.Rate),
			samples.Of(c.name, func(s paired.Sample) float64 { return 1000 / s.PerCPU() }), samples.Of(c.name, func(s paired.Sample) float64 { return s.Extra["rss_mib"] }))
	}
	report.Printf("\n| | times the MB/s of |\n|---|---|\n")
	for _, r := range [][2]string{{"mvmae", "storescp"}, {"mvmae", "orthanc"}, {"mvmae, TLS", "storescp, TLS"}, {"mvmae, TLS", "mvmae"}} {
		report.Printf("| %s, %s | **%v** |\n", r[0], r[1], samples.Ratio(r[0], r[1], paired.Sample.Rate))
	}
}

// round starts a receiver, sends it everything and looks at what it has.
func (c contender) round(ctx context.Context, files []string, size int64) (s paired.Sample, err error) {
	dir, err := os.MkdirTemp(paired.WorkDir, "pacs-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	p, err := c.start(ctx, dir)
	if err != nil {
		return s, err
	}
	defer p.Close()
	args := []string{"-aec", aeTitle, "-xe"}
	if c.secure {
		args = append(args, "+tla", "+cf", filepath.Join(paired.WorkDir, certFile))
	}
	args = append(append(args, "127.0.0.1", strconv.Itoa(p.Port)), files...)
	exec.Command("sync").Run() // what others have written is not this one's burden
	before, err := cpuOf(p.PID())
	if err != nil {
		return s, err
	}
	start := time.Now()
	if _, err := dimse.Run(ctx, "storescu", args...); err != nil {
		return s, err
	}
	s.Seconds = time.Since(start).Seconds()
	after, err := cpuOf(p.PID())
	if err != nil {
		return s, err
	}
	rss, err := peakRSS(p.PID())
	if err != nil {
		return s, err
	}
	s.CPUSeconds = (after - before).Seconds()
	s.Done, s.Extra = float64(objects*size)/megabytes, map[string]float64{"rss_mib": rss}
	return s, check(dir, c.ext, size)
}

// check counts the objects below dir: files of about their size.
func check(dir, ext string, size int64) error {
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || ext != "" && filepath.Ext(path) != ext {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size-4096 && info.Size() < size+4096 {
			n++
		}
		return err
	})
	if err == nil && n != objects {
		err = fmt.Errorf("%d objects are there, %d were sent", n, objects)
	}
	return err
}

// cpuOf is the user and system time of a process and its threads so far.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(rest))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	const tick = time.Second / 100 // USER_HZ
	return time.Duration(user+system) * tick, err
}

// peakRSS is the most memory that a process has had, in MiB.
func peakRSS(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kib) / 1024, err
}

// writeObjects writes what is sent: noise, so that nothing on the way can shrink it.
func writeObjects(dir string) (files []string, size int64, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, 0, err
	}
	for i := range objects {
		pixels := make([]byte, 2*side*side)
		rand.Read(pixels)
		var b bytes.Buffer
		err := dicom.Write(&b, dicom.ExplicitVRLittleEndian, []dicom.Element{
			{Tag: tag.SOPClassUID, Value: sopClass}, {Tag: tag.SOPInstanceUID, Value: fmt.Sprintf("1.2.3.4.%d", i+1)},
			{Tag: tag.StudyInstanceUID, Value: fmt.Sprintf("1.2.3.%d", i/2+1)}, {Tag: tag.SeriesInstanceUID, Value: fmt.Sprintf("1.2.3.%d.1", i/2+1)},
			{Tag: tag.PatientID, Value: fmt.Sprint(i/2 + 1)}, {Tag: tag.PatientName, Value: "A^B"}, {Tag: tag.StudyDate, Value: "20260101"}, {Tag: tag.Modality, Value: "DX"},
			{Tag: tag.SamplesPerPixel, Value: 1}, {Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.Rows, Value: side}, {Tag: tag.Columns, Value: side},
			{Tag: tag.BitsAllocated, Value: 16}, {Tag: tag.BitsStored, Value: 16}, {Tag: tag.HighBit, Value: 15}, {Tag: tag.PixelRepresentation, Value: 0},
			{Tag: tag.PixelData, VR: "OW", Value: pixels},
		})
		if err != nil {
			return nil, 0, err
		}
		path := filepath.Join(dir, fmt.Sprintf("%02d.dcm", i))
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			return nil, 0, err
		}
		files, size = append(files, path), int64(b.Len())
	}
	return files, size, nil
}

// writeCertificate makes a certificate of an hour for both ends.
func writeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(paired.WorkDir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(paired.WorkDir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
}
