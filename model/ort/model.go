package ort

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Options say how a model is run.
type Options struct {
	Device  string // CPU, CUDA or Auto; "" is CPU
	Threads int    // threads of one Run on the CPU; 0 is 1
	Runs    int    // Runs at a time that there are threads for; 0 is 1
}

// Model is an open model file. All methods may be called concurrently.
type Model struct {
	metadata model.Metadata
	sha256   string
	device   string

	mu      sync.RWMutex // read: a Run in progress
	session *onnx.DynamicAdvancedSession
}

// The tensors of a model file, in the order of every call below. A file may have the output attention besides.
var (
	inputNames  = []string{"image", "view"}
	outputNames = []string{"logits", "probability", "embedding"}
)

const attentionName = "attention"

// ErrClosed is the error of a Run after Close.
var ErrClosed = errors.New("model is closed")

// Open reads a model file and makes it ready to run.
func Open(path string, opts Options) (*Model, error) {
	// Read once: the digest and the session are of the same bytes even if the file is replaced meanwhile.
	data, free, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hint.Wrap(fmt.Errorf("model: %w", err), `"mvmae-export %s" makes one of the newest run`, path)
	}
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	defer free()
	return OpenBytes(path, data, opts)
}

// OpenBytes makes the content of a model file ready to run. The name is for errors, and its folder is where a large model's
// file of weights lies; data is not kept.
func OpenBytes(name string, data []byte, opts Options) (*Model, error) {
	if _, err := initialise(); err != nil {
		return nil, err
	}
	defer trim()
	digest := sha256.Sum256(data)
	m := &Model{sha256: hex.EncodeToString(digest[:])}
	var err error
	if m.metadata, err = readMetadata(data); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	if m.metadata.Part != "" {
		return nil, hint.Wrap(fmt.Errorf("model %s: it is the %s of a classifier alone", name, m.metadata.Part), `"mvmae-export" without --part makes the whole`)
	}
	folder := filepath.Dir(name)
	if err := checkWeights(folder, m.metadata.Weights); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	outputs := outputNames
	if m.metadata.Attention {
		outputs = append(outputs[:len(outputs):len(outputs)], attentionName)
	}
	m.session, m.device, err = newSession(folder, data, outputs, opts)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	if err := m.check(); err != nil {
		m.Close()
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	return m, nil
}

// newSession makes a session on the device asked for and says which that is.
func newSession(folder string, data []byte, outputs []string, opts Options) (*onnx.DynamicAdvancedSession, string, error) {
	options, err := onnx.NewSessionOptions()
	if err != nil {
		return nil, "", err
	}
	defer options.Destroy()
	device, err := appendDevice(options, opts.Device)
	if err != nil {
		return nil, "", err
	}
	err = errors.Join(
		options.SetGraphOptimizationLevel(onnx.GraphOptimizationLevelEnableAll),
		options.SetExecutionMode(onnx.ExecutionModeSequential),
		options.SetIntraOpNumThreads(1+max(opts.Runs, 1)*(max(opts.Threads, 1)-1)), // a Run's caller works too
		options.SetInterOpNumThreads(1),
		options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder),
	)
	if err != nil {
		return nil, "", err
	}
	session, err := onnx.NewDynamicAdvancedSessionWithONNXData(data, inputNames, outputs, options)
	switch {
	case err == nil:
		return session, device, nil
	case device == CUDA && strings.Contains(err.Error(), "CUDA"): // a library that loads but finds no usable GPU
		if opts.Device == Auto {
			opts.Device = CPU
			return newSession(folder, data, outputs, opts)
		}
		return nil, "", hint.Wrap(&DeviceError{CUDA, err}, "%s", deviceCure)
	}
	return nil, "", unloadable(plain(err))
}

func unloadable(err error) error {
	return hint.Wrap(fmt.Errorf("not an ONNX file that can be loaded: %w", err), "copy the file again, or make it anew with mvmae-export")
}

// plain is an error of the binding without the words it puts in front, on one line.
func plain(err error) error {
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, prefix := range []string{"Error creating C session: ", "Error running network: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return errors.New(text)
}

const anew = "make the file anew with mvmae-export of this version"

// check runs the graph, which warms it up and shows whether its inputs and outputs are those that the metadata promise, and
// whether it says what it said when it was exported.
func (m *Model) check() error {
	s := m.metadata.Spec
	if _, err := m.logits(make([]float32, s.ImageSize*s.ImageSize), 0); err != nil {
		return hint.Wrap(fmt.Errorf("its graph is not what its metadata say: %w", err), anew)
	}
	if m.metadata.SelfTest == nil {
		return nil
	}
	return m.metadata.SelfTest.Check(s, m.tolerance(), m.logits)
}

// tolerance is how far a logit may lie from that of the machine that exported the file. In float32 the sums are done in another order,
// which is known for CPUs alone; lower precisions round at other places, as much as the exporter saw them do.
func (m *Model) tolerance() float64 {
	exact := m.metadata.Precision == "" || m.metadata.Precision == "fp32"
	switch check := m.metadata.Check; {
	case exact && m.device == CPU:
		return 1e-3
	case check != nil:
		return max(0.05, check.LogitDifference)
	}
	return 0.05
}

// logits are those of one image.
func (m *Model) logits(image []float32, view int64) (row [model.NumLabels]float32, err error) {
	out, err := m.Run(context.Background(), image, []int64{view})
	if err != nil {
		return row, err
	}
	return out.Logits[0], nil
}

// SelfTest is what the model says of drawn images, for its file.
func (m *Model) SelfTest() (*model.SelfTest, error) {
	return model.NewSelfTest(m.metadata.Spec, m.logits)
}

// Metadata returns what the file says of itself.
func (m *Model) Metadata() model.Metadata { return m.metadata }

// SHA256 is the digest of the file, in hexadecimal.
func (m *Model) SHA256() string { return m.sha256 }

// Device is the device the model runs on: CPU or CUDA.
func (m *Model) Device() string { return m.device }

// Close waits for the Runs in progress and gives the session's memory back to the system. Later Runs return ErrClosed.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session == nil {
		return nil
	}
	err := m.session.Destroy()
	m.session = nil
	trim()
	return err
}
