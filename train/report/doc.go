// Package report lets people see runs: the page of one run, as it goes on or when it has ended, and the tables and figures of many
// runs side by side.
//
// WritePage makes the page: one HTML file with its pictures inside, which needs no network and no script. LeavePage writes it into the run's folder as report.html;
// Watch serves it while the run is in training. Compare gathers classifiers' runs, and its Write
// leaves what the MVMAE paper shows of them (its tables 1 to 8 and figures 3 to 11) as CSV, Markdown, SVG and PNG.
package report
