package train

import (
	"testing"
)

// Measured steps are the run's own: the same losses, whether the batches are made before or beside them.
func TestMeasure_StepsAreThoseOfPretrain(t *testing.T) {
	pack := makePack(t, 40)
	cfg := testConfig()
	l, err := newPretraining(device(t), newRun(t, "pretrain", "", pack, cfg), pack)
	if err != nil {
		t.Fatal(err)
	}
	const n = 3
	var want []StepMetrics
	for i := range n {
		m, _, err := l.step([]hostBatch{l.loader.batch(i, l.task)})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, m)
	}
	for _, beforehand := range []bool{false, true} {
		steps, plan, err := Measure(t.Context(), device(t), newRun(t, "pretrain", "", pack, cfg), pack, n, beforehand)
		if err != nil || len(steps) != n || plan.Total() == 0 {
			t.Fatalf("%d steps, plan %+v, %v", len(steps), plan, err)
		}
		for i, s := range steps {
			if s.Loss != want[i].Loss || s.GradNorm != want[i].GradNorm || s.Views < 1 || !(s.Seconds > 0) {
				t.Errorf("beforehand %v: step %d is %+v, want %+v", beforehand, i, s, want[i])
			}
		}
	}
	if _, _, err := Measure(t.Context(), device(t), newRun(t, "pretrain", "", pack, cfg), pack, 1e6, true); err == nil {
		t.Error("more steps than the run has: no error")
	}
}
