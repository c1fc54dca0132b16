package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
)

// SchemaVersion is the version of every document Result writes. It grows when a field is removed or changes its meaning,
// not when one is added.
const SchemaVersion = 1

// Output is where a command puts what it has to say. &Output{Stdout: a, Stderr: b} is ready for use in a test.
type Output struct {
	JSON    bool      // --json: Result writes, Printf is silent
	Verbose bool      // -v
	LogJSON bool      // the log has JSON lines
	Stdout  io.Writer // results only
	Stderr  io.Writer // logs, progress, errors

	now func() time.Time // nil means time.Now

	mu   sync.Mutex
	bars *mpb.Progress // the bar now on the terminal, above which log lines are written
}

// Printf writes text for people to standard output; under --json it writes nothing.
func (o *Output) Printf(format string, args ...any) {
	if !o.JSON {
		fmt.Fprintf(o.Stdout, format, args...)
	}
}

// Result writes doc, which must become a JSON object, as the command's one document with its schema_version first. Without
// --json it writes nothing. NaN and infinities are errors: leave an undefined number out.
func (o *Output) Result(doc any) error {
	if !o.JSON {
		return nil
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if len(body) < 2 || body[0] != '{' {
		return errors.New("encode result: not a JSON object")
	}
	text := fmt.Appendf(nil, `{"schema_version":%d`, SchemaVersion)
	if rest := body[1:]; rest[0] != '}' {
		text = append(text, ',')
	}
	text = append(text, body[1:]...)
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	indented.WriteByte('\n')
	if _, err := o.Stdout.Write(indented.Bytes()); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// logger logs to standard error.
func (o *Output) logger() *slog.Logger {
	level := slog.LevelInfo
	if o.Verbose {
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	if o.LogJSON {
		return slog.New(slog.NewJSONHandler((*logWriter)(o), opts))
	}
	return slog.New(slog.NewTextHandler((*logWriter)(o), opts))
}

// logWriter writes log lines to standard error, above the bar while there is one.
type logWriter Output

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bars != nil {
		return w.bars.Write(p)
	}
	return w.Stderr.Write(p)
}
