// Package cli is the manners the three programs share: flags, exit codes, errors with hints, progress, --json.
//
// A program is one kong struct of commands given to Main; a command is a struct of flags with the method
//
//	Run(ctx context.Context, out *cli.Output) error
//
// Results go to standard output (Output.Printf for people, Output.Result for --json), all else to standard error. An error
// is printed as "error: ..." and, where internal/hint knows a cure, "hint: ...". Its exit code is its ExitCode method's, or
// the one given by Exit, or 1. The first interrupt cancels ctx, so that a command can finish its step and leave a
// checkpoint; the second leaves at once.
package cli
