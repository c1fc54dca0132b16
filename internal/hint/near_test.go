package hint

import "testing"

func TestNearest_FindsTyposAlone(t *testing.T) {
	known := []string{"Pneumonia", "Edema", "Pleural Effusion", "optim.warmup_epochs"}
	for _, c := range []struct{ name, want string }{
		{"Pneumonai", "Pneumonia"}, {"edema", "Edema"}, {"pleural_effusion", "Pleural Effusion"},
		{"optim.warmup_epoch", "optim.warmup_epochs"}, {"hospital_number", ""},
	} {
		if got := Nearest(c.name, known); got != c.want {
			t.Errorf("nearest to %q is %q, want %q", c.name, got, c.want)
		}
	}
}
