package export

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/model"
)

// Difference is what two ONNX files differ in.
type Difference struct {
	A         string         `json:"a"`
	B         string         `json:"b"`
	SameBytes bool           `json:"same_bytes"`
	Metadata  []Change       `json:"metadata"` // by the dotted name of each value
	Graph     []Change       `json:"graph"`    // versions, inputs and outputs, counts of nodes, the first node that differs
	Weights   []WeightChange `json:"weights"`  // the largest difference first
	Equal     int            `json:"equal_weights"`
}

// Change is a value that differs; "" where a file has none.
type Change struct {
	Name string `json:"name"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// WeightChange is a tensor that differs: in type and shape, or in its numbers.
type WeightChange struct {
	Name    string  `json:"name"`
	A       string  `json:"a"`       // type and shape; "" where the file has no such tensor
	B       string  `json:"b"`       //
	Largest float64 `json:"largest"` // difference, absolute, where both have the same shape
	Changed int     `json:"changed"` // numbers that differ
	Values  int     `json:"values"`
}

// Diff compares two ONNX files, weights and all, without running them.
func Diff(a, b string) (*Difference, error) {
	var files [2]*onnxpb.ModelProto
	var digests [2]string
	for i, path := range []string{a, b} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("diff: %w", err)
		}
		if files[i], err = parseModel(data); err != nil {
			return nil, fmt.Errorf("diff %s: %w", path, err)
		}
		digests[i] = digestOf(data)
	}
	d := &Difference{A: a, B: b, SameBytes: digests[0] == digests[1], Metadata: []Change{}, Weights: []WeightChange{}}
	var docs [2]any
	for i, f := range files {
		docs[i] = metadataTree(f)
	}
	diffTree("", docs[0], docs[1], &d.Metadata)
	d.Graph = diffGraph(files[0], files[1])
	if err := d.diffWeights(files, [2]string{filepath.Dir(a), filepath.Dir(b)}); err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	return d, nil
}

// Same reports whether the files say, compute and hold the same.
func (d *Difference) Same() bool {
	return len(d.Metadata) == 0 && len(d.Graph) == 0 && len(d.Weights) == 0
}

// metadataTree is all of a file's metadata: ours as a tree, those of others as texts.
func metadataTree(f *onnxpb.ModelProto) any {
	tree := map[string]any{}
	for _, p := range f.MetadataProps {
		var v any
		if json.Unmarshal([]byte(p.Value), &v) != nil {
			v = p.Value
		}
		tree[p.Key] = v
	}
	return tree
}

// diffTree adds what two JSON values differ in. Long lists of numbers are told in one line.
func diffTree(name string, a, b any, out *[]Change) {
	if reflect.DeepEqual(a, b) {
		return
	}
	x, isMap := a.(map[string]any)
	if y, ok := b.(map[string]any); ok && isMap {
		keys := maps.Clone(x)
		maps.Copy(keys, y)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			diffTree(strings.TrimPrefix(name+"."+k, "."), x[k], y[k], out)
		}
		return
	}
	p, aNumbers := numbers(a)
	q, bNumbers := numbers(b)
	if aNumbers && bNumbers && len(p) == len(q) && len(p) > 4 {
		at, largest := 0, 0.0
		for i := range p {
			if diff := math.Abs(p[i] - q[i]); diff > largest {
				at, largest = i, diff
			}
		}
		*out = append(*out, Change{fmt.Sprintf("%s[%d]", name, at), short(p[at]), short(q[at])})
		return
	}
	*out = append(*out, Change{name, short(a), short(b)})
}

func numbers(v any) (out []float64, ok bool) {
	items, ok := v.([]any)
	for _, x := range items {
		f, isNumber := x.(float64)
		ok = ok && isNumber
		out = append(out, f)
	}
	return out, ok
}

// short is a JSON value in few letters.
func short(v any) string {
	if v == nil {
		return ""
	}
	doc, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(doc) > 80 {
		return string(doc[:77]) + "..."
	}
	return string(doc)
}

func diffGraph(a, b *onnxpb.ModelProto) []Change {
	out := []Change{}
	add := func(name, x, y string) {
		if x != y {
			out = append(out, Change{name, x, y})
		}
	}
	add("ir_version", strconv.FormatInt(a.IrVersion, 10), strconv.FormatInt(b.IrVersion, 10))
	add("producer", a.ProducerName+" "+a.ProducerVersion, b.ProducerName+" "+b.ProducerVersion)
	add("opset", opsets(a), opsets(b))
	add("inputs", portTexts(a.Graph.Input), portTexts(b.Graph.Input))
	add("outputs", portTexts(a.Graph.Output), portTexts(b.Graph.Output))
	add("nodes", strconv.Itoa(len(a.Graph.Node)), strconv.Itoa(len(b.Graph.Node)))
	var counts [2]map[string]int
	kinds := map[string]bool{}
	for i, f := range []*onnxpb.ModelProto{a, b} {
		counts[i] = map[string]int{}
		for _, n := range f.Graph.Node {
			counts[i][n.OpType]++
			kinds[n.OpType] = true
		}
	}
	for _, op := range slices.Sorted(maps.Keys(kinds)) {
		add("nodes "+op, strconv.Itoa(counts[0][op]), strconv.Itoa(counts[1][op]))
	}
	for i := range min(len(a.Graph.Node), len(b.Graph.Node)) {
		if x, y := a.Graph.Node[i], b.Graph.Node[i]; !proto.Equal(x, y) {
			out = append(out, Change{fmt.Sprintf("node %d, the first that differs", i), nodeText(x), nodeText(y)})
			break
		}
	}
	return out
}

func opsets(f *onnxpb.ModelProto) string {
	var out []string
	for _, o := range f.OpsetImport {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %d", o.Domain, o.Version)))
	}
	return strings.Join(out, ", ")
}

func portTexts(infos []*onnxpb.ValueInfoProto) string {
	var out []string
	for _, p := range ports(infos) {
		out = append(out, fmt.Sprintf("%s %s [%s]", p.Name, p.Type, strings.Join(p.Shape, ",")))
	}
	return strings.Join(out, ", ")
}

func nodeText(n *onnxpb.NodeProto) string {
	return fmt.Sprintf("%s(%s) -> %s", n.OpType, strings.Join(n.Input, ", "), strings.Join(n.Output, ", "))
}

// diffWeights compares the stored tensors of two files, which lie in the files or in others in their folders.
func (d *Difference) diffWeights(files [2]*onnxpb.ModelProto, folders [2]string) error {
	var tensors [2]map[string]*onnxpb.TensorProto
	all := map[string]bool{}
	for i, f := range files {
		tensors[i] = map[string]*onnxpb.TensorProto{}
		for _, t := range f.Graph.Initializer {
			tensors[i][t.Name], all[t.Name] = t, true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x, y := tensors[0][name], tensors[1][name]
		change := WeightChange{Name: name, A: tensorText(x), B: tensorText(y)}
		if x != nil && y != nil {
			p, err := tensorValues(x, folders[0])
			if err != nil {
				return err
			}
			q, err := tensorValues(y, folders[1])
			if err != nil {
				return err
			}
			if slices.Equal(x.Dims, y.Dims) && len(p) == len(q) {
				change.compare(p, q)
			}
			if change.Changed == 0 && change.A == change.B {
				d.Equal++
				continue
			}
		}
		d.Weights = append(d.Weights, change)
	}
	slices.SortStableFunc(d.Weights, func(x, y WeightChange) int {
		switch {
		case x.Largest > y.Largest:
			return -1
		case x.Largest < y.Largest:
			return 1
		}
		return 0
	})
	return nil
}

func (c *WeightChange) compare(p, q []float32) {
	c.Values = len(p)
	for i := range p {
		if p[i] == q[i] || p[i] != p[i] && q[i] != q[i] { // NaN in both is no difference
			continue
		}
		c.Changed++
		diff := math.Abs(float64(p[i]) - float64(q[i]))
		if math.IsNaN(diff) || math.IsInf(diff, 0) {
			diff = math.MaxFloat64 // JSON has neither
		}
		c.Largest = max(c.Largest, diff)
	}
}

func tensorText(t *onnxpb.TensorProto) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("%s%v", strings.ToLower(onnxpb.TensorProto_DataType(t.DataType).String()), t.Dims)
}

// bfloat16 is TensorProto.BFLOAT16, which no graph of ours has.
const bfloat16 onnxpb.TensorProto_DataType = 16

// tensorTypes are the types of ONNX by the names that model.Floats knows.
var tensorTypes = map[onnxpb.TensorProto_DataType]string{
	onnxpb.TensorProto_FLOAT: "F32", onnxpb.TensorProto_DOUBLE: "F64", onnxpb.TensorProto_FLOAT16: "F16", bfloat16: "BF16",
	onnxpb.TensorProto_INT64: "I64", onnxpb.TensorProto_INT32: "I32", onnxpb.TensorProto_INT16: "I16", onnxpb.TensorProto_INT8: "I8",
	onnxpb.TensorProto_UINT8: "U8", onnxpb.TensorProto_BOOL: "BOOL",
}

// tensorValues are the numbers of a stored tensor.
func tensorValues(t *onnxpb.TensorProto, folder string) ([]float32, error) {
	if len(t.FloatData) > 0 {
		return t.FloatData, nil
	}
	var whole []float32
	for _, v := range t.Int64Data {
		whole = append(whole, float32(v))
	}
	for _, v := range t.Int32Data {
		whole = append(whole, float32(v))
	}
	if whole != nil {
		return whole, nil
	}
	raw, err := tensorBytes(t, folder, math.MaxInt64)
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
	}
	dtype, ok := tensorTypes[onnxpb.TensorProto_DataType(t.DataType)]
	if !ok {
		dtype = "U8" // of other types, whether the bytes differ
	}
	values, err := model.Floats(dtype, raw)
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
	}
	return values, nil
}
