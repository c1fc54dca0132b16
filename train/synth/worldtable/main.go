// Worldtable writes train/synth/worlds.csv: how often each of the 14 labels occurs in the real datasets, and how often two of
// them together, as the phantom's institutions have them.
//
//	go run ./train/synth/worldtable --padchest DIR --chexpert DIR --nih DIR > train/synth/worlds.csv
//
// A folder holds the dataset's table under its own name; no images are needed. The table of MIMIC-CXR needs credentials: its
// rates are those of Johnson et al. 2019.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/mvmae/mvmae/train/synth/worldtable/rates"
)

func main() {
	var dirs rates.Tables
	flag.StringVar(&dirs.PadChest, "padchest", "", "folder of PadChest's table")
	flag.StringVar(&dirs.CheXpert, "chexpert", "", "folder of CheXpert's train.csv")
	flag.StringVar(&dirs.NIH, "nih", "", "folder of ChestX-ray14's table")
	flag.Parse()
	if err := rates.Write(context.Background(), os.Stdout, dirs); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
