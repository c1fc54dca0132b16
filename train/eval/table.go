package eval

import (
	"fmt"
	"strings"

	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
)

// The columns of Table: at most 120 characters.
const (
	tableHead = "%-26s %6s %6s  %-20s  %-20s  %5s  %5s%s\n"
	tableRow  = "%-26s %6d %6d  %-20v  %-20v  %5v  %5v %6.4f%s %5v  %5v\n"
)

// Table returns the report as text of at most 120 columns. The JSON document also has the intervals left out here.
func (r Report) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Test: %d studies of %d patients, %s views fused by %s.\n", r.Test.Studies, r.Test.Patients, r.ViewsPerStudy, r.Fusion)
	if r.Validation.Studies == 0 {
		b.WriteString("Thresholds are those of the model.\n")
	} else {
		fmt.Fprintf(&b, "Validation: %d studies of %d patients; thresholds were tuned there (macro AUROC %v).\n",
			r.Validation.Studies, r.Validation.Patients, r.Validation.MacroAUROC)
	}
	if r.Bootstrap.Replicates > 0 {
		fmt.Fprintf(&b, "Brackets: %g %% intervals, %d bootstrap replicates over patients.\n", 100*r.Bootstrap.Level, r.Bootstrap.Replicates)
	}
	b.WriteByte('\n')
	fmt.Fprintf(&b, tableHead, "", "n", "n pos", "AUROC", "average precision", "F1", "F1", " thresh  Brier    ECE")
	fmt.Fprintf(&b, tableHead, "", "", "", "", "", "0.5", "tuned", "")
	untuned := false
	for _, l := range r.Labels {
		mark := " "
		if !l.Tuned {
			mark, untuned = "*", true
		}
		fmt.Fprintf(&b, tableRow, l.Label, l.Studies, l.Positives, l.AUROC, l.AveragePrecision, l.F1.Value, l.F1Tuned.Value,
			l.Threshold, mark, l.Brier.Value, l.ECE.Value)
	}
	if untuned && r.Validation.Studies > 0 {
		b.WriteString("* no positive in validation: the threshold is not tuned\n")
	}
	r.writeMacro(&b)
	if c := r.Calibration; c != nil && c.Kind != fuse.NoCalibration {
		fmt.Fprintf(&b, "\nCalibrated (%s, fitted on validation): macro ECE %v before, %v after, change %v\n", c.Kind, c.ECE.Before.Value, c.ECE.After.Value, c.ECE.Change)
	}
	r.writeViews(&b)
	if p := r.PerLabel; p != nil {
		fmt.Fprintf(&b, "\nThe epoch of each label's own best validation AUROC, not epoch %d for all: macro AUROC %v, paired gain %v\n", p.JointEpoch, p.Macro.AUROC, p.Gain.AUROC)
	}
	if r.Against != nil {
		b.WriteString(r.Against.Table())
	}
	return b.String()
}

func (r Report) writeMacro(b *strings.Builder) {
	m := r.Macro
	fmt.Fprintf(b, "\nMacro means over the labels that define the metric (AUROC: %d of %d)\n", m.Labels, len(r.Labels))
	for _, line := range []struct {
		name        string
		value       metrics.Estimate
		second      string
		secondValue metrics.Estimate
	}{
		{"AUROC", m.AUROC, "average precision", m.AveragePrecision},
		{"F1 at 0.5", m.F1, "labels with positives", m.F1LabelsWithPositives},
		{"F1 tuned", m.F1Tuned, "labels with positives", m.F1TunedLabelsWithPositives},
		{"ECE", m.ECE, "pooled over labels", m.PooledECE},
		{"Brier", m.Brier, "", metrics.Estimate{}},
	} {
		text := fmt.Sprintf("  %-10s %-20v", line.name, line.value)
		if line.second != "" {
			text += fmt.Sprintf("   %-22s %v", line.second, line.secondValue)
		}
		fmt.Fprintln(b, strings.TrimRight(text, " "))
	}
	if m.ECE.Value < m.ECE.Low || m.PooledECE.Value < m.PooledECE.Low {
		fmt.Fprintln(b, "  (resampling raises a calibration error on average, so its value may lie below its interval)")
	}
}

func (r Report) writeViews(b *strings.Builder) {
	fmt.Fprintf(b, "\n%-26s %6s %8s  %s\n", "Studies by views", "n", "patients", "macro AUROC")
	for _, v := range r.ByViews {
		fmt.Fprintf(b, "%-26s %6d %8d  %v, %d labels\n", v.Views, v.Studies, v.Patients, v.MacroAUROC, v.Labels)
	}
}
