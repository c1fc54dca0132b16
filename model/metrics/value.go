package metrics

import (
	"encoding/json"
	"fmt"
	"math"
)

// Value is a metric that may be undefined: NaN in memory, null in JSON.
type Value float64

// Defined says whether the data define the metric.
func (v Value) Defined() bool { return !math.IsNaN(float64(v)) }

// String gives three decimals, or a dash where the value is undefined.
func (v Value) String() string {
	if !v.Defined() {
		return "-"
	}
	return fmt.Sprintf("%.3f", float64(v))
}

// MarshalJSON writes null for an undefined value.
func (v Value) MarshalJSON() ([]byte, error) {
	if !v.Defined() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(v))
}

// UnmarshalJSON reads null as undefined.
func (v *Value) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*v = Value(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(v))
}

// Estimate is a metric with its 95 % interval.
type Estimate struct {
	Value Value `json:"value"`
	Low   Value `json:"low"`
	High  Value `json:"high"`
	// Replicates counts the bootstrap replicates that define the metric; the others, which drew no positive say, are
	// left out of the interval.
	Replicates int `json:"replicates"`
}

// String gives "0.874 [0.851, 0.896]", the value alone where there is no interval.
func (e Estimate) String() string {
	if !e.Low.Defined() {
		return e.Value.String()
	}
	return fmt.Sprintf("%v [%v, %v]", e.Value, e.Low, e.High)
}
