package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
)

// serving is the flags of a server's models.
type serving struct {
	Model        string `type:"path" placeholder:"FILE" help:"Model file, as mvmae-export makes it: the default model."`
	Models       string `type:"path" placeholder:"DIR" help:"Serve the model files *.onnx of this folder too, each by its own name and version."`
	DefaultModel string `placeholder:"NAME[@VERSION]" help:"The model of --models that answers where none is named (default: that of --model, or the newest version of their one name)."`
}

func (s *serving) validate() error {
	switch {
	case s.Model == "" && s.Models == "":
		return hint.Wrap(errors.New("no model"), "name a model file with --model, or a folder of them with --models")
	case s.DefaultModel != "" && s.Models == "":
		return hint.Wrap(errors.New("--default-model is of no use without --models"), "name the folder with --models")
	case s.DefaultModel != "" && s.Model != "":
		return hint.Wrap(fmt.Errorf("--model and --default-model %s: which is the default?", s.DefaultModel), "leave one out: that of --model is")
	}
	return nil
}

func (s *serving) models(opts serve.Options, logger *slog.Logger) *serve.Models {
	return serve.NewModels(serve.ModelsOptions{File: s.Model, Folder: s.Models, Default: s.DefaultModel, Engine: opts, Logger: logger})
}
