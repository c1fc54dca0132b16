package train

import (
	"fmt"

	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/dtensor"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/internal/hint"
)

// shards spread a step over several devices: each gets its share of the view images, and all of them the parameters. XLA's
// partitioner adds what they must tell each other, so the step computes what it computes on one device.
type shards struct{ whole, split *distributed.ShardingSpec }

// spreadOver sets up a step of a number of view images for n devices.
func spreadOver(n int, exec *gomodel.Exec, views int) (*shards, error) {
	if views%n != 0 {
		return nil, hint.Wrap(fmt.Errorf("%d view images of a batch cannot be shared by %d devices", views, n), "make batch_views a multiple of %d", n)
	}
	mesh, err := distributed.NewDeviceMesh([]int{n}, []string{"views"})
	if err != nil {
		return nil, err
	}
	s := &shards{whole: distributed.NewReplicatedShardingSpec(mesh)}
	if s.split, err = distributed.BuildSpec(mesh).S("views").Done(); err != nil {
		return nil, err
	}
	exec.AutoSharding(mesh)
	exec.WithInputShardingSpecs(s.spec(0), s.spec(1), s.spec(2), s.spec(3), s.spec(4), s.spec(5)) // and so on like the last
	exec.WithOutputShardingSpecs(s.whole)
	return s, exec.SetDefaultShardingSpec(s.whole)
}

// spec is how the i-th input of a step lies: scalars and the study matrix everywhere, the others by view image.
func (s *shards) spec(i int) *distributed.ShardingSpec {
	if i == 0 || i == 4 {
		return s.whole
	}
	return s.split
}

// call runs a step and returns the outputs that one device has: all have the same.
func (s *shards) call(exec *gomodel.Exec, inputs []any) ([]*tensors.Tensor, error) {
	spread := make([]any, len(inputs))
	for i, x := range inputs {
		part, err := dtensor.ShardTensor(s.spec(i), x.(*tensors.Tensor))
		if err != nil {
			return nil, err
		}
		spread[i] = part
	}
	all, err := exec.DistributedExec(spread...)
	if err != nil {
		return nil, err
	}
	out := make([]*tensors.Tensor, len(all))
	for i, x := range all {
		out[i] = x.Shards()[0]
	}
	return out, nil
}
