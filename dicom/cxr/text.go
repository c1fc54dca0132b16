package cxr

// A line of text, six letters or more, is nothing that anatomy or a side marker looks like: along two rows next to each other the
// gray value rises and falls as often as nowhere else. The numbers were set after a look at 410 frontal views of ChestX-ray14,
// 79 of them with the word PORTABLE: of 331 without a word none has more than 10 turns, equalised, at either size.
const (
	wordWidth   = 28 // pixels
	strokeRises = 40 // of 255, from one turn to the next
	wordTurns   = 11 // in a word's width: a letter has two at least
)

// lettered says whether a line of text can be seen in a stored picture: of letters that are 2 to 5 pixels wide, or, at half
// the size, up to 10.
func lettered(stored []byte) bool {
	const half = StoredSize / 2
	var small [half * half]byte
	for i := range small {
		at := 2*(i/half)*StoredSize + 2*(i%half)
		small[i] = byte((int(stored[at]) + int(stored[at+1]) + int(stored[at+StoredSize]) + int(stored[at+StoredSize+1])) / 4)
	}
	return linedText(stored, StoredSize) || linedText(small[:], half)
}

// linedText looks for a line of text in a square picture of one size.
func linedText(pixels []byte, side int) bool {
	var above, here [StoredSize]bool // at which pixels a word may start
	var places [StoredSize]int
	for ; len(pixels) > 0; pixels = pixels[side:] {
		here = [StoredSize]bool{}
		turns := turnsOf(pixels[:side], places[:0])
		for i := wordTurns - 1; i < len(turns); i++ {
			for start := max(0, turns[i]-wordWidth+1); start <= turns[i-wordTurns+1]; start++ {
				if above[start] {
					return true
				}
				here[start] = true
			}
		}
		above = here
	}
	return false
}

// turnsOf appends the places where a row goes from rising to falling or back, by strokeRises at least.
func turnsOf(row []byte, turns []int) []int {
	place, extreme, rising := 0, int(row[0]), true
	for x, b := range row {
		v := int(b)
		sign := 1
		if !rising {
			sign = -1
		}
		switch d := sign * (v - extreme); {
		case d > 0:
			place, extreme = x, v
		case d <= -strokeRises:
			turns = append(turns, place)
			place, extreme, rising = x, v, !rising
		}
	}
	return turns
}
