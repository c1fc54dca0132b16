package train

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
)

// planner is a backend that shows each compiled graph's plan to check before the graph runs; an error of check is the graph's. GoMLX
// has no place between the two, but for its backend. All else is the backend's own: buffers are wrapped because they
// tell whose they are.
type planner struct {
	compute.Backend
	check func(Plan) error // nil for none
}

func (p *planner) Builder(name string) compute.Builder {
	return plannedBuilder{p.Backend.Builder(name), p}
}

func (p *planner) BufferFromFlatData(device compute.DeviceNum, flat any, shape shapes.Shape) (compute.Buffer, error) {
	b, err := p.Backend.BufferFromFlatData(device, flat, shape)
	return p.own(b), err
}

func (p *planner) NewSharedBuffer(device compute.DeviceNum, shape shapes.Shape) (compute.Buffer, any, error) {
	b, flat, err := p.Backend.NewSharedBuffer(device, shape)
	return p.own(b), flat, err
}

// own makes a buffer the planner's; no buffer stays none.
func (p *planner) own(b compute.Buffer) compute.Buffer {
	if b == nil {
		return nil
	}
	return plannedBuffer{b, p}
}

type plannedBuilder struct {
	compute.Builder
	planner *planner
}

func (b plannedBuilder) Compile() (compute.Executable, error) {
	exe, err := b.Builder.Compile()
	if err != nil {
		return nil, err
	}
	if plan, ok := planOf(exe); ok && b.planner.check != nil {
		if err := b.planner.check(plan); err != nil {
			exe.Finalize()
			return nil, err
		}
	}
	return plannedExecutable{exe, b.planner}, nil
}

type plannedExecutable struct {
	compute.Executable
	planner *planner
}

func (e plannedExecutable) Execute(inputs []compute.Buffer, donate []bool, device compute.DeviceNum) ([]compute.Buffer, error) {
	plain := make([]compute.Buffer, len(inputs))
	for i, b := range inputs {
		plain[i] = b.(plannedBuffer).Buffer
	}
	outputs, err := e.Executable.Execute(plain, donate, device)
	for i, b := range outputs {
		outputs[i] = e.planner.own(b)
	}
	return outputs, err
}

type plannedBuffer struct {
	compute.Buffer
	planner *planner
}

func (b plannedBuffer) Backend() compute.Backend { return b.planner }

func (b plannedBuffer) CopyToDevice(device compute.DeviceNum) (compute.Buffer, error) {
	c, err := b.Buffer.CopyToDevice(device)
	return b.planner.own(c), err
}
