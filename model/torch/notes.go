package torch

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/pelletier/go-toml/v2"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Notes are what a file of weights does not say of itself. They stand beside it in a TOML file: vit.pth.toml for vit.pth.
type Notes struct {
	// Mean and Std are the normalisation the network was trained with, (pixel-mean)/std of pixels in [0,1]: a number for each
	// channel, or one for all.
	Mean []float64 `toml:"mean"`
	Std  []float64 `toml:"std"`
	// Heads of attention in a block; 0 for what the file says, or for heads of 64 as all the usual vision transformers have.
	Heads int `toml:"heads"`
	// Labels are those of the classifier's outputs, in their order: a permutation of model.Labels.
	Labels []string `toml:"labels"`
}

// ReadNotes reads the notes beside a file. Without any they are empty.
func ReadNotes(file string) (n Notes, err error) {
	path := notesPath(file)
	doc, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("notes: %w", err)
	}
	d := toml.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			err = fmt.Errorf("unknown key %s", strict.Errors[0].Key())
		}
		return n, hint.Wrap(fmt.Errorf("notes %s: %w", path, err), "the keys are mean, std, heads and labels")
	}
	return n, nil
}

// scale gives mean and std of each channel. fallback is what a layout is known to use, nil for nothing.
func (n Notes) scale(channels int, fallback *[2]float64) (mean, std []float64, err error) {
	mean, std = n.Mean, n.Std
	if mean == nil && std == nil && fallback != nil {
		mean, std = fallback[:1], fallback[1:]
	}
	if mean == nil || std == nil {
		return nil, nil, hint.Wrap(errors.New("the file does not say how pixels were normalised"),
			"write mean = [...] and std = [...] into the file beside it that ends in .toml, as in vit.pth.toml: 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 for networks of ImageNet, 0.5056 and 0.252 for those of lambert-x/medical_mae")
	}
	if mean, err = perChannel("mean", mean, channels); err != nil {
		return nil, nil, err
	}
	if std, err = perChannel("std", std, channels); err != nil {
		return nil, nil, err
	}
	for _, s := range std {
		if !(s > 0) {
			return nil, nil, fmt.Errorf("std holds %g: want more than 0", s)
		}
	}
	return mean, std, nil
}

func perChannel(key string, v []float64, channels int) ([]float64, error) {
	switch {
	case len(v) == channels:
		return v, nil
	case len(v) == 1:
		out := make([]float64, channels)
		for i := range out {
			out[i] = v[0]
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s has %d numbers for %d channels", key, len(v), channels)
}

// order tells for each of model.Labels which output of a classifier it is.
func (n Notes) order() ([]int, error) {
	if len(n.Labels) != model.NumLabels {
		return nil, fmt.Errorf("labels: %d of them, want %d", len(n.Labels), model.NumLabels)
	}
	order := make([]int, model.NumLabels)
	for i := range order {
		order[i] = -1
	}
	for row, name := range n.Labels {
		l := model.LabelIndex(name)
		if l < 0 {
			return nil, hint.Wrap(fmt.Errorf("labels: %q is none of the 14", name), "they are %q", model.Labels[:])
		}
		if order[l] >= 0 {
			return nil, fmt.Errorf("labels: %q stands there twice", name)
		}
		order[l] = row
	}
	return order, nil
}
