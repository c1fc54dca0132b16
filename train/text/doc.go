// Package text turns reports into tokens and back: byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019),
// trained on a run's own training reports, so that nothing is downloaded and no word is unknown.
//
// Train makes a Tokenizer; the same reports in any order make the same one. Normalise says what of a report is kept. Read and Write are its
// file in the run folder.
package text
