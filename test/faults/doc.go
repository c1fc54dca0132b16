// Package faults does to mvmae-serve what happens to servers: it is killed at random moments under load, its NATS servers are, its
// disk is full, its senders are slow. What it then checks is the promise: every object that was accepted is in the
// one current result of its study, and on disk as it was sent.
//
// [Run] kills; it takes the program, so that tests and benchmarks/faults share it.
package faults
