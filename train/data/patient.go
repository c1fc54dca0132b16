package data

import (
	"strconv"
	"strings"
)

// MaxAge stands for itself and every higher age: so old a patient could be told by the age (45 CFR 164.514(b)(2)(i)(C)).
const MaxAge = 90

// oldest is the highest age that is believed: ChestX-ray14 has a patient of 414 years.
const oldest = 120

// Patient is what reports are broken down by.
type Patient struct {
	Sex string // F or M; empty where neither or nothing is known
	Age int    // whole years, at most MaxAge; 0 where it is not known, or below one year
}

// NewPatient keeps what can be used of a sex and an age in years.
func NewPatient(sex string, years int) (p Patient) {
	if sex == "F" || sex == "M" {
		p.Sex = sex
	}
	if years > 0 && years <= oldest {
		p.Age = min(years, MaxAge)
	}
	return p
}

// parseAge reads a DICOM age string (PS3.5 6.2, AS), nnnY, or a number of years. Ages in days, weeks and months, and what is
// neither, give 0.
func parseAge(text string) int {
	years, err := strconv.Atoi(strings.TrimSuffix(text, "Y"))
	if err != nil {
		return 0
	}
	return years
}
