// Package eval scores a classifier on held-out studies.
//
// [Evaluate] fuses the views of each study (model/fuse), tunes decision thresholds on the validation studies and reports
// on the test studies: AUROC, average precision, F1 at 0.5 and at the tuned thresholds, Brier score and calibration error,
// per label, as macro means and by which views a study has, with intervals over patients (model/metrics). It refuses
// predictions in which a patient or a study occurs in both sets, because such a report would score memory.
//
// [Report] is the JSON document of `mvmae-train eval --json`; [Report.Table] is the same for people.
package eval
