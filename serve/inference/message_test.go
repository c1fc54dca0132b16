package inference

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// floats are numbers as binary tensors have them.
func floats(values ...float32) string {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return string(b)
}

func TestParseRequest_EveryWayToWriteATensor(t *testing.T) {
	want := []Tensor{
		{Name: "image", Datatype: FP32, Shape: []int64{2, 2}, Floats: []float32{1, -2.5, 3e-3, 4}},
		{Name: "view", Datatype: INT64, Shape: []int64{2}, Ints: []int64{1, -9}},
	}
	const image, view = `{"name":"image","datatype":"FP32","shape":[2,2],`, `{"name":"view","datatype":"INT64","shape":[2],`
	ints := string(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 1), math.MaxUint64-8))
	for name, c := range map[string]struct{ image, view, after string }{
		"flat":   {image + `"data":[1,-2.5,3e-3,4]}`, view + `"data":[1,-9]}`, ""},
		"nested": {image + "\"data\" : [ [1, -2.5] ,\n[0.003,4] ]}", view + `"data":[[1],[-9]]}`, ""},
		"binary": {image + `"parameters":{"binary_data_size":16,"other":"x"}}`, view + `"parameters":{"binary_data_size":16}}`, floats(1, -2.5, 3e-3, 4) + ints},
		"mixed":  {image + `"data":[1,-2.5,3e-3,4]}`, view + `"parameters":{"binary_data_size":16}}`, ints},
	} {
		text := `{"id":"7","inputs":[` + c.image + "," + c.view + `],"outputs":[{"name":"logits","parameters":{"binary_data":true}},{"name":"x"}]}`
		length := ""
		if c.after != "" {
			length = strconv.Itoa(len(text))
		}
		got, err := ParseRequest([]byte(text+c.after), length)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(&Request{ID: "7", Inputs: want, Outputs: []Wanted{{"logits", true}, {"x", false}}}, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestParseRequest_RefusesByName(t *testing.T) {
	tensor := func(rest string) string { return `{"inputs":[{"name":"image",` + rest + `}]}` }
	for _, c := range []struct{ body, length, want string }{
		{"", "", "JSON"},
		{"{", "", "JSON"},
		{`{"inputs":3}`, "", "inputs"},
		{"{}", "3", HeaderLength},
		{"{}", "-1", HeaderLength},
		{"{}x", "2", "1 bytes follow"},
		{tensor(`"datatype":"FP32","shape":[2],"data":[1]`), "", `input "image": it has 1 numbers, its shape [2] wants 2`},
		{tensor(`"datatype":"FP32","shape":[1],"data":["a"]`), "", "number 0"},
		{tensor(`"datatype":"FP32","shape":[1],"data":[1e99]`), "", "number 0"},
		{tensor(`"datatype":"INT64","shape":[2],"data":[1,1.5]`), "", "number 1"},
		{tensor(`"datatype":"FP32","shape":[1],"data":7`), "", "no array"},
		{tensor(`"datatype":"FP32","shape":[1]`), "", "no array"},
		{tensor(`"datatype":"FP32","shape":[-1],"data":[]`), "", "shape [-1]"},
		{tensor(`"datatype":"FP32","shape":[4294967296,4294967296],"data":[]`), "", "shape"},
		{tensor(`"datatype":"BYTES","shape":[1],"data":[1]`), "", `"BYTES"`},
		{tensor(`"datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}`), "", "0 bytes are left"},
		{tensor(`"datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":0}`), "", "both"},
	} {
		if _, err := ParseRequest([]byte(c.body), c.length); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.body, err, c.want)
		}
	}
}

func TestEncode_BinaryAndJSON(t *testing.T) {
	r := &Response{Model: "m", Version: "2", ID: "7", Outputs: []Tensor{
		{Name: "a", Datatype: FP32, Shape: []int64{1, 2}, Floats: []float32{0.5, 2}}, {Name: "b", Datatype: FP32, Shape: []int64{1}, Floats: []float32{3}},
	}, Binary: []bool{false, true}}
	body, n, err := r.Encode()
	want := `{"model_name":"m","model_version":"2","id":"7","outputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[0.5,2]},` +
		`{"name":"b","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}`
	if diff := cmp.Diff(want+floats(3), string(body)); err != nil || diff != "" || n != len(want) {
		t.Errorf("%v, %d bytes of JSON (-want +got)\n%s", err, n, diff)
	}
	r.Outputs[0].Floats[0] = float32(math.NaN())
	if _, _, err := r.Encode(); err == nil || !strings.Contains(err.Error(), `output "a"`) {
		t.Errorf("NaN: error %v", err)
	}
}

// Whatever comes, the numbers are those that the shapes want, and take no more memory than what came.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[[1,2]]}]}`), "")
	head := `{"inputs":[{"name":"a","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}}]}`
	f.Add([]byte(head+"12345678"), fmt.Sprint(len(head)))
	f.Fuzz(func(t *testing.T, body []byte, length string) {
		r, err := ParseRequest(body, length)
		if err != nil {
			return
		}
		total := 0
		for _, in := range r.Inputs {
			n, err := elements(in.Shape)
			if err != nil || n != int64(len(in.Floats)+len(in.Ints)) {
				t.Errorf("shape %v, %d numbers", in.Shape, len(in.Floats)+len(in.Ints))
			}
			total += int(n)
		}
		if total > len(body) {
			t.Errorf("%d numbers of %d bytes", total, len(body))
		}
	})
}
