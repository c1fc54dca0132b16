package export

import (
	"fmt"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/model"
)

// costOf is what an image costs. Of an encoder that came as an ONNX file only the parameters are counted.
func costOf(s model.Spec, file *onnxpb.ModelProto) (model.Cost, error) {
	if !s.Foreign() {
		return model.CostOf(s, 1)
	}
	var cost model.Cost
	for _, t := range file.Graph.Initializer {
		n := int64(1)
		for _, d := range t.Dims {
			n *= d
		}
		cost.Parameters += n
	}
	return cost, nil
}

func costText(parameters int64, gflops float64) string {
	text := fmt.Sprintf("%.1f million parameters", float64(parameters)/1e6)
	if gflops > 0 {
		text += fmt.Sprintf(", %.2f GFLOPs an image", gflops)
	}
	return text
}
