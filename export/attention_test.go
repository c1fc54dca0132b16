package export

import (
	"math"
	"testing"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
)

// The rollout as Abnar and Zuidema define it, with whole matrices, from the attention that the graph itself computes.
func TestEmbedAttention_IsTheProductOfTheBlocksAttention(t *testing.T) {
	for _, pool := range []model.Pool{model.PoolCLS, model.PoolMean} {
		s := exporttest.Spec(t, "nano")
		s.Pool, s.Depth = pool, 3
		const n = 2
		images, views := exporttest.Inputs(n, s)
		inputs := []array{{dims: []int{n, s.ImageSize, s.ImageSize}, floats: images}, {dims: []int{n}, ints: views}}
		tokens := 1 + s.NumPatches()
		out := runOps(t, s, exporttest.Weights(s), func(g *graph, in []value) []value {
			_, attention := model.EmbedAttention(g, s, in[0], in[1])
			results := []value{attention}
			for _, node := range g.nodes {
				if node.OpType == "Softmax" {
					results = append(results, value{node.Output[0], []int{1, s.Heads, tokens, tokens}})
				}
			}
			return results
		}, inputs, n)[0]
		if len(out) != 1+s.Depth {
			t.Fatalf("%d blocks: want %d", len(out)-1, s.Depth)
		}
		for image := range n {
			sum := 0.0
			for patch, want := range rolledOut(s, out[1:], image) {
				got := float64(out[0][image*s.NumPatches()+patch])
				sum += got
				if math.Abs(got-want) > 1e-6 {
					t.Errorf("pool %s, image %d, patch %d: %g, want %g", pool, image, patch, got, want)
				}
			}
			if sum <= 0 || sum > 1 {
				t.Errorf("pool %s, image %d: the shares sum to %g", pool, image, sum)
			}
		}
	}
}

// rolledOut multiplies (mean over heads + I)/2 of all blocks, the last to the left, and returns the row of what the head reads.
func rolledOut(s model.Spec, maps [][]float32, image int) []float64 {
	n := 1 + s.NumPatches()
	product := make([][]float64, n)
	for i := range product {
		product[i] = make([]float64, n)
		product[i][i] = 1
	}
	for _, m := range maps {
		next := make([][]float64, n)
		for i := range next {
			next[i] = make([]float64, n)
			for k := range n {
				a := 0.0
				for head := range s.Heads {
					a += float64(m[((image*s.Heads+head)*n+i)*n+k]) / float64(s.Heads)
				}
				if i == k {
					a++
				}
				for j := range n {
					next[i][j] += a / 2 * product[k][j]
				}
			}
		}
		product = next
	}
	if s.Pool == model.PoolCLS {
		return product[0][1:]
	}
	row := make([]float64, n-1)
	for _, from := range product[1:] {
		for j := range row {
			row[j] += from[1+j] / float64(n-1)
		}
	}
	return row
}
