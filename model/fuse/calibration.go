package fuse

import (
	"encoding/json"
	"fmt"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// NoCalibration is the only kind of Calibration so far: probabilities are taken as they are.
const NoCalibration = "none"

// Calibration corrects the fused probabilities of a study. In a model file it is {"kind":"none"}; a kind with parameters
// will keep them beside "kind". A kind that this program does not know is refused, because leaving a calibration out would
// change the findings without a word.
type Calibration struct {
	Kind string `json:"kind"`
}

// Validate refuses an unknown kind.
func (c Calibration) Validate() error {
	if c.Kind != NoCalibration {
		return hint.Wrap(fmt.Errorf("unknown calibration %q", c.Kind), "this program knows %q; a newer one may know more", NoCalibration)
	}
	return nil
}

// ParseCalibration reads the JSON document of a model file.
func ParseCalibration(doc []byte) (Calibration, error) {
	var c Calibration
	if err := json.Unmarshal(doc, &c); err != nil {
		return Calibration{}, fmt.Errorf("calibration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Calibration{}, err
	}
	return c, nil
}

// Apply returns the calibrated probabilities of a study fused from the given number of views: the mean of several views
// is less extreme than one view, so a correction depends on their number. It wants a valid calibration.
func (c Calibration) Apply(probability [model.NumLabels]float32, views int) [model.NumLabels]float32 {
	return probability
}
