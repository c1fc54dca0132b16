package dicom

import "strings"

// The value representations of PS3.5 6.2, by how they are encoded (7.1.2).
const (
	textVRs   = "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT"
	numberVRs = "AT FD FL SL SS SV UL US UV"
	bulkVRs   = "OB OD OF OL OV OW UN"
	longVRs   = "OB OD OF OL OV OW SQ SV UC UN UR UT UV" // two reserved bytes and a 32-bit length
)

// hasVR is safe for any two bytes: a list holds only letters and single spaces, and a pair cannot straddle a space
// unless it holds one.
func hasVR(list, vr string) bool {
	return len(vr) == 2 && vr[0] != ' ' && vr[1] != ' ' && strings.Contains(list, vr)
}

func isTextVR(vr string) bool { return hasVR(textVRs, vr) }
func isBulkVR(vr string) bool { return hasVR(bulkVRs, vr) }
func isLongVR(vr string) bool { return hasVR(longVRs, vr) }
func isKnownVR(vr string) bool {
	return vr == "SQ" || isTextVR(vr) || hasVR(numberVRs, vr) || isBulkVR(vr)
}
