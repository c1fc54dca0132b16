// Package metrics scores predicted findings against the truth: AUROC, average precision, F1, Brier score and expected
// calibration error, per label and as macro means, with confidence intervals by resampling patients.
//
// The trainer, the exporter and the reports all use it, so a number has one definition in the project. Begin with
// [NewTable], which sorts every label once; [Table.Measure] then gives the values, [Table.Bootstrap] the values with their
// intervals, and [Difference] the paired comparison of two models on the same studies. [Tally] scores a single label.
//
// A metric that the data do not define (AUROC without both classes, anything without studies) is NaN here, null in JSON
// ([Value]) and left out of macro means: never 0 and never 1/2. A label that a dataset lacks (model.Absent) is left out of
// that label's studies; it is not a negative.
package metrics
