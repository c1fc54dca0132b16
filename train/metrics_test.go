package train

import (
	"testing"
	"time"
)

// Two steps of 30 and 10 images that take a second each, the second after a wait of two.
func TestMeanMetrics_WaitingIsNoThroughput(t *testing.T) {
	mean := newMean()
	if first, _ := mean.add(StepMetrics{Step: 1, Loss: 1, ImagesPerSec: 30}, 30, 0); first.Waiting != 0 || first.ImagesPerSec != 30 {
		t.Errorf("a step that was not waited for: %+v", first)
	}
	line, full := mean.add(StepMetrics{Step: 2, Loss: 2, ImagesPerSec: 10}, 10, 2*time.Second)
	if line.Loss != 1.5 || line.ImagesPerSec != 20 || line.Waiting != 0.5 || full {
		t.Errorf("%+v, due %v: want loss 1.5, 20 images a second, half of the time waiting, not due", line, full)
	}
}
