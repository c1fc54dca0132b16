//go:build !linux

package faults

import (
	"context"
	"errors"
)

// FillReport says what came of a disk that filled up.
type FillReport struct{}

// Fill needs Linux, whose disks in memory it fills.
func Fill(context.Context, Config, int) (*FillReport, error) {
	return nil, errors.New("filling a disk needs Linux")
}
