package main

import (
	"testing"

	"github.com/mvmae/mvmae/cmd/internal/script"
)

func TestMain(m *testing.M) { script.Main(m, "mvmae-export", main) }

func TestScripts(t *testing.T) { script.Run(t) }
