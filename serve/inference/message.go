package inference

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// The types of tensors that are read and written.
const (
	FP32  = "FP32"
	INT64 = "INT64"
)

// HeaderLength is the HTTP header that says how many bytes of a body are JSON, where binary tensors follow.
const HeaderLength = "Inference-Header-Content-Length"

// Extension is the name of the binary tensors in a server's metadata.
const Extension = "binary_tensor_data"

// Tensor is a named array, row by row. One of Floats and Ints is set, as Datatype says.
type Tensor struct {
	Name     string
	Datatype string
	Shape    []int64
	Floats   []float32
	Ints     []int64
}

// Wanted is an output that a request names.
type Wanted struct {
	Name   string
	Binary bool // after the JSON, not in it
}

// Request is what is asked of a model.
type Request struct {
	ID      string
	Inputs  []Tensor
	Outputs []Wanted // none: all of them
	Binary  bool     // the outputs that are not named
}

// tensorJSON is a tensor in a message's JSON.
type tensorJSON struct {
	Name       string          `json:"name"`
	Shape      []int64         `json:"shape,omitempty"`
	Datatype   string          `json:"datatype,omitempty"`
	Parameters *parameters     `json:"parameters,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
}

// parameters are those of the extension. Others are left alone, as the protocol wants it.
type parameters struct {
	Size         *int64 `json:"binary_data_size,omitempty"`   // of an input, of an answer's output
	Binary       bool   `json:"binary_data,omitempty"`        // of a request's output
	BinaryOutput bool   `json:"binary_data_output,omitempty"` // of a request
}

// ParseRequest reads the body of a request. headerLength is the header of that name, "" without binary tensors. The numbers it
// makes take no more memory than the body. An error names the tensor.
func ParseRequest(body []byte, headerLength string) (*Request, error) {
	text, binaries := body, []byte(nil)
	if headerLength != "" {
		n, err := strconv.ParseUint(headerLength, 10, 63)
		if err != nil || n > uint64(len(body)) {
			return nil, fmt.Errorf("%s is %q, the body has %d bytes", HeaderLength, headerLength, len(body))
		}
		text, binaries = body[:n], body[n:]
	}
	var message struct {
		ID         string       `json:"id"`
		Parameters parameters   `json:"parameters"`
		Inputs     []tensorJSON `json:"inputs"`
		Outputs    []tensorJSON `json:"outputs"`
	}
	if err := json.Unmarshal(text, &message); err != nil {
		return nil, fmt.Errorf("the request's JSON: %w", err)
	}
	request := &Request{ID: message.ID, Binary: message.Parameters.BinaryOutput}
	for _, in := range message.Inputs {
		t, err := in.tensor(&binaries)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", in.Name, err)
		}
		request.Inputs = append(request.Inputs, *t)
	}
	if len(binaries) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last tensor", len(binaries))
	}
	for _, out := range message.Outputs {
		request.Outputs = append(request.Outputs, Wanted{out.Name, out.Parameters != nil && out.Parameters.Binary})
	}
	return request, nil
}

// tensor reads a tensor's numbers from the JSON, or from the beginning of binaries.
func (in *tensorJSON) tensor(binaries *[]byte) (*Tensor, error) {
	t := &Tensor{Name: in.Name, Datatype: in.Datatype, Shape: in.Shape}
	n, err := elements(in.Shape)
	if err != nil {
		return nil, err
	}
	var raw []byte
	isBinary := in.Parameters != nil && in.Parameters.Size != nil
	if isBinary {
		size := *in.Parameters.Size
		switch {
		case in.Data != nil:
			return nil, fmt.Errorf("it has both data and binary_data_size")
		case size < 0 || size > int64(len(*binaries)):
			return nil, fmt.Errorf("binary_data_size is %d: %d bytes are left", size, len(*binaries))
		}
		raw, *binaries = (*binaries)[:size], (*binaries)[size:]
	}
	switch in.Datatype {
	case FP32:
		if isBinary {
			t.Floats, err = decode(raw, 4, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) })
		} else {
			t.Floats, err = numbers(in.Data, func(s string) (float32, error) { v, err := strconv.ParseFloat(s, 32); return float32(v), err })
		}
	case INT64:
		if isBinary {
			t.Ints, err = decode(raw, 8, func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) })
		} else {
			t.Ints, err = numbers(in.Data, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
		}
	default:
		return nil, fmt.Errorf("datatype %q: only %s and %s are read", in.Datatype, FP32, INT64)
	}
	if err != nil {
		return nil, err
	}
	if found := int64(len(t.Floats) + len(t.Ints)); found != n {
		return nil, fmt.Errorf("it has %d numbers, its shape %v wants %d", found, in.Shape, n)
	}
	return t, nil
}

// elements is how many numbers a shape wants.
func elements(shape []int64) (int64, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt32/d { // far more than any body has
			return 0, fmt.Errorf("shape %v is none", shape)
		}
		n *= d
	}
	return n, nil
}

func decode[T any](raw []byte, size int, one func([]byte) T) ([]T, error) {
	if len(raw)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no whole number of elements of %d", len(raw), size)
	}
	out := make([]T, 0, len(raw)/size)
	for ; len(raw) > 0; raw = raw[size:] {
		out = append(out, one(raw))
	}
	return out, nil
}

// numbers reads an array of numbers that is JSON already, flat or nested: the protocol allows both.
func numbers[T any](data []byte, parse func(string) (T, error)) ([]T, error) {
	if len(data) == 0 || data[0] != '[' {
		return nil, fmt.Errorf("data is no array")
	}
	var out []T
	const between = "[], \t\r\n"
	for {
		data = bytes.TrimLeft(data, between)
		if len(data) == 0 {
			return out, nil
		}
		end := bytes.IndexAny(data, between)
		if end < 0 {
			end = len(data)
		}
		v, err := parse(string(data[:end]))
		if err != nil {
			return nil, fmt.Errorf("data, number %d: %s is not of the tensor's type", len(out), clip(data[:end]))
		}
		out = append(out, v)
		data = data[end:]
	}
}

// clip keeps a stranger's text short in an error.
func clip(text []byte) string {
	if len(text) > 32 {
		return strconv.Quote(string(text[:32])) + "..."
	}
	return strconv.Quote(string(text))
}

// Response is a model's answer.
type Response struct {
	Model, Version, ID string
	Outputs            []Tensor // of FP32
	Binary             []bool   // of each output: after the JSON, not in it
}

// Encode writes the answer. jsonLength is how many bytes of it are JSON; all, if no output is binary. Numbers that JSON does not know
// are an error.
func (r *Response) Encode() (body []byte, jsonLength int, err error) {
	message := struct {
		Model   string       `json:"model_name"`
		Version string       `json:"model_version,omitempty"`
		ID      string       `json:"id,omitempty"`
		Outputs []tensorJSON `json:"outputs"`
	}{r.Model, r.Version, r.ID, []tensorJSON{}}
	var binaries []byte
	for i, t := range r.Outputs {
		out := tensorJSON{Name: t.Name, Shape: t.Shape, Datatype: t.Datatype}
		if r.Binary[i] {
			for _, v := range t.Floats {
				binaries = binary.LittleEndian.AppendUint32(binaries, math.Float32bits(v))
			}
			size := int64(4 * len(t.Floats))
			out.Parameters = &parameters{Size: &size}
		} else if out.Data, err = json.Marshal(t.Floats); err != nil {
			return nil, 0, fmt.Errorf("output %q: %w", t.Name, err)
		}
		message.Outputs = append(message.Outputs, out)
	}
	text, err := json.Marshal(message)
	return append(text, binaries...), len(text), err
}
