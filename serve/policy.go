package serve

import (
	"cmp"
	"runtime"
	"time"

	"github.com/mvmae/mvmae/model/ort"
)

// Policy says which images are run together. There is one for every device; what differs is the numbers.
//
// An image waits for others only while a Run is in progress, for on an idle device waiting gains nothing. It waits no
// longer than MaxDelay, nor so long that its request's deadline could not be met, and not at all if it is urgent.
type Policy struct {
	MaxBatch  int           // images of a Run at most
	Preferred []int         // sizes that the device does well, rising: a batch that reaches one does not wait for more
	MaxDelay  time.Duration // that an image waits for others
	Instances int           // Runs at a time
}

// DefaultPolicy is that of a device. On a CPU a batch gains less than one Run per core does, and costs its first image the
// time of the others; on CUDA one Run computes while the other's images are copied. threads are those of a Run on the CPU.
func DefaultPolicy(device string, threads int) Policy {
	if device == ort.CUDA {
		return Policy{MaxBatch: 32, Preferred: []int{8, 16, 32}, MaxDelay: 2 * time.Millisecond, Instances: 2}
	}
	return Policy{MaxBatch: 1, Instances: max(1, runtime.GOMAXPROCS(0)/max(1, threads))}
}

// or fills what is not set with another policy's.
func (p Policy) or(d Policy) Policy {
	p.MaxBatch = cmp.Or(p.MaxBatch, d.MaxBatch)
	p.MaxDelay = cmp.Or(p.MaxDelay, d.MaxDelay)
	p.Instances = cmp.Or(p.Instances, d.Instances)
	if p.Preferred == nil {
		p.Preferred = d.Preferred
	}
	return p
}

// due says how many of the images that wait, at least one, are to be run now, or else when to look again. first is the
// moment from which one of them must not wait any longer; busy, whether a Run is in progress.
func (p Policy) due(waiting int, busy bool, now, first time.Time) (n int, again time.Duration) {
	if waiting >= p.MaxBatch {
		return p.MaxBatch, 0
	}
	for _, size := range p.Preferred {
		if size <= waiting {
			n = size
		}
	}
	if n > 0 {
		return n, 0
	}
	if wait := first.Sub(now); busy && wait > 0 {
		return 0, wait
	}
	return waiting, 0
}
