package data

import "testing"

func TestNewPatient_KeepsWhatCanBeUsed(t *testing.T) {
	for _, c := range []struct {
		sex, age string
		want     Patient
	}{
		{"F", "045Y", Patient{"F", 45}},
		{"M", "58", Patient{"M", 58}},
		{"M", "090Y", Patient{"M", MaxAge}},
		{"M", "103Y", Patient{"M", MaxAge}},
		{"F", "414", Patient{Sex: "F"}},
		{"F", "018M", Patient{Sex: "F"}},
		{"F", "-3", Patient{Sex: "F"}},
		{"O", "", Patient{}},
		{"f", "Y", Patient{}},
	} {
		if got := NewPatient(c.sex, parseAge(c.age)); got != c.want {
			t.Errorf("%q, %q: %+v, want %+v", c.sex, c.age, got, c.want)
		}
	}
}
