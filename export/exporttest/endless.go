package exporttest

import "github.com/mvmae/mvmae/export/onnxpb"

// Endless changes a model so that it never comes to an end unless all views are 0: a loop without limit stands before them.
func Endless(f *onnxpb.ModelProto) {
	for _, n := range f.Graph.Node {
		for i := range n.Input {
			if n.Input[i] == "view" {
				n.Input[i] = "view_after"
			}
		}
	}
	images := []int{0} // as many as there are
	turn, going, view := info("turn", onnxpb.TensorProto_INT64, nil), info("going", onnxpb.TensorProto_BOOL, nil), info("view_in", onnxpb.TensorProto_INT64, images)
	body := &onnxpb.GraphProto{
		Name:  "body",
		Input: []*onnxpb.ValueInfoProto{turn, going, view}, Output: []*onnxpb.ValueInfoProto{info("go_on", onnxpb.TensorProto_BOOL, nil), info("view_out", onnxpb.TensorProto_INT64, images)},
		Node: []*onnxpb.NodeProto{
			{OpType: "Identity", Input: []string{"going"}, Output: []string{"go_on"}},
			{OpType: "Identity", Input: []string{"view_in"}, Output: []string{"view_out"}},
		},
	}
	most := &onnxpb.TensorProto{Name: "most", DataType: int32(onnxpb.TensorProto_INT64), Int64Data: []int64{1 << 60}}
	f.Graph.Initializer = append(f.Graph.Initializer, most)
	keep := int64(0)
	f.Graph.Node = append([]*onnxpb.NodeProto{
		{OpType: "ReduceMax", Input: []string{"view"}, Output: []string{"largest"}, Attribute: []*onnxpb.AttributeProto{
			{Name: "keepdims", Type: onnxpb.AttributeProto_INT, I: &keep}}},
		{OpType: "Mul", Input: []string{"largest", "most"}, Output: []string{"turns"}},
		{OpType: "Loop", Input: []string{"turns", "", "view"}, Output: []string{"view_after"}, Attribute: []*onnxpb.AttributeProto{
			{Name: "body", Type: onnxpb.AttributeProto_GRAPH, G: body}}},
	}, f.Graph.Node...)
}
