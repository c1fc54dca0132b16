// Package fuse turns the logits of a study's views into its findings: late fusion, calibration, thresholds.
//
// [Fuse] gives the probabilities of a study, [Calibration] corrects them, [Findings] compares them with the thresholds.
// The trainer's evaluation, the exporter and the server call the same functions with the rule, calibration and thresholds
// of the model file, so a study that is served gets the numbers it was evaluated with.
//
// Rounding: logits are float32; everything after them is computed in float64 and rounded to float32 once, at the end of
// [Fuse]. Sums run over views in the order given, so equal input in equal order gives equal bits; another order may differ
// in the last bit. Thresholds are compared with the rounded probability, not with what a page or report prints of it.
package fuse
