package text

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
)

// Train learns a tokenizer of at most size tokens from reports: as long as some pair of tokens occurs twice, the most frequent one
// becomes a token; of pairs as frequent the one of the lower tokens.
func Train(reports []string, size int) (*Tokenizer, error) {
	if size < MinVocabulary {
		return nil, fmt.Errorf("train tokenizer: a vocabulary of %d: want %d or more, which every byte needs", size, MinVocabulary)
	}
	t := newTrainer(reports)
	var merges []pair
	for len(merges) < size-MinVocabulary {
		p, ok := t.mostFrequent()
		if !ok {
			break
		}
		t.merge(p, int32(firstMerge+len(merges)))
		merges = append(merges, p)
	}
	return newTokenizer(merges)
}

// word is a distinct word of the reports.
type word struct {
	tokens []int32
	count  int
}

// trainer counts pairs of tokens within words. The queue may hold outdated counts; mostFrequent sees to them.
type trainer struct {
	words []word
	count map[pair]int
	where map[pair]map[int]bool // words that hold or held the pair
	queue queue
}

func newTrainer(reports []string) *trainer {
	counts := map[string]int{}
	for _, r := range reports {
		for _, w := range words(Normalise(r)) {
			counts[w]++
		}
	}
	t := &trainer{count: map[pair]int{}, where: map[pair]map[int]bool{}}
	for _, w := range slices.Sorted(maps.Keys(counts)) {
		t.words = append(t.words, word{bytesOf(w), counts[w]})
		t.add(len(t.words)-1, 1)
	}
	for p, n := range t.count {
		t.queue = append(t.queue, counted{p, n})
	}
	heap.Init(&t.queue)
	return t
}

// add counts the pairs of a word, or with sign -1 takes them off.
func (t *trainer) add(i, sign int) {
	w := t.words[i]
	for j := range len(w.tokens) - 1 {
		p := pair{w.tokens[j], w.tokens[j+1]}
		t.count[p] += sign * w.count
		if t.where[p] == nil {
			t.where[p] = map[int]bool{}
		}
		t.where[p][i] = true
	}
}

// mostFrequent takes the pair to merge next.
func (t *trainer) mostFrequent() (pair, bool) {
	for len(t.queue) > 0 {
		top := heap.Pop(&t.queue).(counted)
		switch now := t.count[top.pair]; {
		case now < 2:
		case now == top.count:
			return top.pair, true
		default:
			heap.Push(&t.queue, counted{top.pair, now})
		}
	}
	return pair{}, false
}

// merge makes a pair one token in all words. A pair's count can only fall, but for those with the new token, which are new.
func (t *trainer) merge(p pair, token int32) {
	fresh := map[pair]bool{}
	for i := range t.where[p] {
		t.add(i, -1)
		t.words[i].tokens = merge(t.words[i].tokens, p, token)
		t.add(i, 1)
		tokens := t.words[i].tokens
		for j := range len(tokens) - 1 {
			if tokens[j] == token || tokens[j+1] == token {
				fresh[pair{tokens[j], tokens[j+1]}] = true
			}
		}
	}
	delete(t.where, p)
	delete(t.count, p)
	for f := range fresh {
		heap.Push(&t.queue, counted{f, t.count[f]})
	}
}

// counted is a pair with its count when it was queued.
type counted struct {
	pair
	count int
}

// queue is a heap with the most frequent pair on top.
type queue []counted

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(counted)) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[j].count, q[i].count), slices.Compare(q[i].pair[:], q[j].pair[:])) < 0
}

func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
