// Gorgonia measures and tries what was considered for this project and not taken: see run, which calls it.
//
//	gorgonia block                 time of a training step of one transformer block
//	gorgonia load MODEL.onnx       what onnx-go says to an exported model
package main

import (
	"fmt"
	"os"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "block":
		err = blocks()
	case len(os.Args) == 3 && os.Args[1] == "load":
		err = load(os.Args[2])
	default:
		err = fmt.Errorf("usage: gorgonia block | load MODEL.onnx")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
