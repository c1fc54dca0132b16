package model

import (
	"encoding/binary"
	"fmt"
	"math"
)

// TypeSize is the number of bytes of a number of the type that safetensors calls dtype, or 0 for a type that is not read.
func TypeSize(dtype string) int {
	switch dtype {
	case "F64", "I64":
		return 8
	case "F32", "I32":
		return 4
	case "F16", "BF16", "I16":
		return 2
	case "I8", "U8", "BOOL":
		return 1
	}
	return 0
}

// Floats are little-endian numbers of a type, each as the nearest float32.
func Floats(dtype string, data []byte) ([]float32, error) {
	size := TypeSize(dtype)
	if size == 0 || len(data)%size != 0 {
		return nil, fmt.Errorf("%d bytes of type %q", len(data), dtype)
	}
	out := make([]float32, len(data)/size)
	le := binary.LittleEndian
	for i := range out {
		at := data[i*size:]
		switch dtype {
		case "F64":
			out[i] = float32(math.Float64frombits(le.Uint64(at)))
		case "F32":
			out[i] = math.Float32frombits(le.Uint32(at))
		case "F16":
			out[i] = halfFloat(le.Uint16(at))
		case "BF16":
			out[i] = math.Float32frombits(uint32(le.Uint16(at)) << 16)
		case "I64":
			out[i] = float32(int64(le.Uint64(at)))
		case "I32":
			out[i] = float32(int32(le.Uint32(at)))
		case "I16":
			out[i] = float32(int16(le.Uint16(at)))
		case "I8":
			out[i] = float32(int8(at[0]))
		default: // U8, BOOL
			out[i] = float32(at[0])
		}
	}
	return out, nil
}

// halfFloat is an IEEE 754 binary16 number: 1 bit of sign, 5 of exponent, 10 of fraction.
func halfFloat(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, int(h>>10&31), uint32(h&1023)
	switch {
	case exponent == 31: // infinities and NaN
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	case exponent == 0: // zero and subnormals
		f := float32(fraction) / (1 << 24)
		return math.Float32frombits(math.Float32bits(f) | sign)
	}
	return math.Float32frombits(sign | uint32(exponent-15+127)<<23 | fraction<<13)
}
