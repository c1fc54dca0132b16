package train

import (
	"fmt"
	"os"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/torch"
	"github.com/mvmae/mvmae/train/data"
)

// Weights say which file from elsewhere a run's network began with.
type Weights struct {
	Layout string `json:"layout"` // see package torch
	SHA256 string `json:"sha256"`
}

// BeginWith makes a run begin with a network: of another run's folder, or of a file that torch.Open reads. The run's config
// keeps what is not the network's own.
func (i *RunInfo) BeginWith(init string, cfg Config) error {
	i.Init = init
	info, err := os.Stat(init)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if info.IsDir() {
		from, err := OpenRun(init)
		if err != nil {
			return err
		}
		spec, err := from.Spec()
		i.Spec = &spec
		return err
	}
	n, err := torch.Open(init)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if !n.HasDecoder { // the recipe's, in the width that the encoder has
		own, err := cfg.Spec()
		if err != nil {
			return err
		}
		n.Spec.Decoder = own.Decoder
		if own.Decoder.OwnViews {
			n.Spec.Decoder.Width, n.Spec.Decoder.Heads = n.Spec.Width, n.Spec.Heads
		}
	}
	digest, err := model.FileDigest(init)
	i.Spec, i.Weights = &n.Spec, &Weights{Layout: n.Layout, SHA256: digest}
	return err
}

// Spec is the run's network: that which it began with, else what its config says.
func (r *Run) Spec() (model.Spec, error) {
	if r.Info.Spec != nil {
		return *r.Info.Spec, nil
	}
	if r.Info.Init != "" { // a run of a release that left the network to Init
		from, err := OpenRun(r.Info.Init)
		if err != nil {
			return model.Spec{}, err
		}
		return from.Spec()
	}
	return r.Config.Spec()
}

// begun reads the parameters that a run begins with, those of another run or of a file; nil for random ones. It refuses a run
// that does not fit the pack. Of a file nobody can tell what it was trained on.
func (r *Run) begun(pack *data.Pack) (model.Tensors, error) {
	if r.Info.Init == "" {
		return nil, nil
	}
	if w := r.Info.Weights; w != nil {
		digest, err := model.FileDigest(r.Info.Init)
		if err != nil {
			return nil, fmt.Errorf("init: %w", err)
		}
		if digest != w.SHA256 {
			return nil, hint.Wrap(fmt.Errorf("init: %s is not what it was when the run began", r.Info.Init), "a run goes on with its own weights; begin another run for others")
		}
		n, err := torch.Open(r.Info.Init)
		if err != nil {
			return nil, fmt.Errorf("init: %w", err)
		}
		return n.Tensors, nil
	}
	from, err := OpenRun(r.Info.Init)
	if err != nil {
		return nil, err
	}
	if err := from.fits(pack); err != nil {
		return nil, err
	}
	last, err := from.loadCheckpoint()
	if err != nil {
		return nil, err
	}
	if last.tensors == nil {
		return nil, hint.Wrap(fmt.Errorf("run %s has no checkpoint", r.Info.Init), `let it train: "mvmae-train resume %s"`, r.Info.Init)
	}
	return last.tensors, nil
}

// first are the values that a run's parameters begin with: the encoder's of Init, if there is one, and the decoder's, if that
// has one which fits; all others are random.
func (r *Run) first(pack *data.Pack, spec model.Spec, params []model.Param) (model.Tensors, error) {
	values := initialise(params, r.Config.Seed)
	begun, err := r.begun(pack)
	if err != nil || begun == nil {
		return values, err
	}
	encoder, decoder := spec.Params(model.PartEncoder), spec.Params(model.PartDecoder)
	if err := begun.CheckParams(encoder); err != nil {
		return nil, fmt.Errorf("weights of %s: %w", r.Info.Init, err)
	}
	taken := encoder
	if begun.CheckParams(decoder) == nil {
		taken = append(taken, decoder...)
	}
	for _, p := range taken {
		if _, ok := values[p.Name]; ok {
			values[p.Name] = begun[p.Name]
		}
	}
	return values, nil
}
