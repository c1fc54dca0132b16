package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/version"
)

// globals are the flags of every command of every program.
type globals struct {
	JSON      bool             `name:"json" help:"Write one JSON document to standard output instead of text."`
	Verbose   bool             `name:"verbose" short:"v" help:"Log details to standard error."`
	LogFormat string           `name:"log-format" default:"auto" enum:"auto,text,json" help:"Form of the log's lines: text, json, or auto: that of the results."`
	Version   kong.VersionFlag `help:"Print the version and leave."`
}

// Main parses the command line into cmd (a pointer to a kong struct), runs the chosen command and leaves the program with
// its exit code. exitCode, which may be nil, maps errors whose type cannot have an ExitCode method; it returns 0 for an
// error it does not know.
func Main(name, description string, cmd any, exitCode func(error) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	out := &Output{Stdout: os.Stdout, Stderr: os.Stderr}
	unwatch := context.AfterFunc(ctx, func() {
		second := make(chan os.Signal, 1)
		signal.Notify(second, os.Interrupt, syscall.SIGTERM)
		fmt.Fprintln((*logWriter)(out), "interrupted: finishing what is at hand; a second interrupt leaves at once")
		<-second
		os.Exit(ExitInterrupted)
	})
	code := run(ctx, name, description, cmd, exitCode, os.Args[1:], out)
	unwatch()
	stop()
	os.Exit(code)
}

func run(ctx context.Context, name, description string, cmd any, exitCode func(error) int, args []string, out *Output) int {
	var g globals
	parser, err := kong.New(cmd,
		kong.Name(name), kong.Description(description), kong.Embed(&g), kong.Writers(out.Stdout, out.Stderr),
		kong.Vars{"version": name + " " + version.String()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
	if err != nil {
		panic(err) // a wrong struct tag: every test of the program finds it
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		printError(out.Stderr, usageError(name, err))
		return ExitUsage
	}
	out.JSON, out.Verbose, out.LogJSON = g.JSON, g.Verbose, g.LogFormat == "json" || g.LogFormat == "auto" && g.JSON
	slog.SetDefault(out.logger())
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(out)
	if err != nil {
		printError(out.Stderr, err)
	}
	return codeOf(err, exitCode)
}

// usageError turns kong's error into one with a hint: its own suggestion where it made one, else the command's help. One of a
// command's own hooks may have its hint already.
func usageError(name string, err error) error {
	var parse *kong.ParseError
	if errors.As(err, &parse) && hint.Of(err) != "" {
		return parse.Unwrap() // as it was joined: each problem has its cure
	}
	text, suggestion, found := strings.Cut(err.Error(), ", did you mean ")
	if found {
		return hint.Wrap(errors.New(text), "did you mean %s", suggestion)
	}
	help := name
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			help = node.FullPath()
		}
	}
	return hint.Wrap(err, "run %q", help+" --help")
}

// printError writes each problem and its cure; problems joined by errors.Join (a config with several faults) get a line each.
func printError(w io.Writer, err error) {
	if coded, ok := err.(*exitError); ok {
		err = coded.error
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		for _, one := range joined.Unwrap() {
			printError(w, one)
		}
		return
	}
	fmt.Fprintf(w, "error: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n       "))
	if cure := hint.Of(err); cure != "" {
		fmt.Fprintf(w, "hint: %s\n", strings.ReplaceAll(cure, "\n", "\n      "))
	}
}
