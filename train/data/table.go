package data

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
)

// table reads a CSV file, compressed if its name ends in .gz, by the names of its columns.
type table struct {
	path    string
	file    *os.File
	csv     *csv.Reader
	columns map[string]int
	header  []string
	row     []string
}

// findTable opens the first of the tables that is in dir, each as it is or compressed: NAME or NAME.gz.
func findTable(dir string, names ...string) (*table, error) {
	for _, name := range names {
		for _, at := range []string{name, name + ".gz"} {
			t, err := openTable(filepath.Join(dir, at))
			if !errors.Is(err, fs.ErrNotExist) {
				return t, err
			}
		}
	}
	_, err := os.Stat(filepath.Join(dir, names[0]))
	return nil, hint.Wrap(err, "--root must be the folder that holds %s or %[1]s.gz", names[0])
}

// openTable opens path and reads its header. The caller closes it.
func openTable(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var text io.Reader = bufio.NewReader(f)
	if strings.HasSuffix(path, ".gz") {
		if text, err = gzip.NewReader(text); err != nil {
			f.Close()
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	t := &table{path: path, file: f, csv: csv.NewReader(text), columns: map[string]int{}}
	t.csv.ReuseRecord = true
	header, err := t.csv.Read()
	if err != nil {
		f.Close()
		if errors.Is(err, io.EOF) {
			err = errors.New("the file is empty")
		}
		return nil, fmt.Errorf("read header of %s: %w", path, err)
	}
	for i, name := range header {
		name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")) // some tables begin with a byte order mark
		t.header = append(t.header, name)
		if name == "" {
			continue // a trailing comma, or a column of row numbers
		}
		if _, twice := t.columns[name]; twice {
			f.Close()
			return nil, fmt.Errorf("read header of %s: column %q is there twice", path, name)
		}
		t.columns[name] = i
	}
	return t, nil
}

func (t *table) close() { t.file.Close() }

// need returns an error that names the first wanted column that is missing.
func (t *table) need(names ...string) error {
	for _, name := range names {
		if _, ok := t.columns[name]; !ok {
			return hint.Wrap(fmt.Errorf("%s: no column %q", t.path, name), "its columns are %s", strings.Join(t.header, ", "))
		}
	}
	return nil
}

// next reads a row; at the end it returns io.EOF.
func (t *table) next() error {
	row, err := t.csv.Read()
	t.row = row
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	return err
}

// each calls do for every row. A row that cannot be one is remarked and left out. A quoted field without an end stops the
// work: nobody knows how many rows it swallowed.
func (t *table) each(ctx context.Context, remarks *Remarks, do func() error) error {
	for {
		err := t.next()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &bad) && (bad.Err == csv.ErrFieldCount || bad.Err == csv.ErrBareQuote):
			remarks.refuse("bad_row", "rows with another number of fields than the header, or with a stray quote",
				fmt.Sprintf("%s, line %d", filepath.Base(t.path), bad.StartLine))
			continue
		case err != nil:
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
	}
}

// known remarks the columns that are none of the dataset's own: they are not used.
func (t *table) known(columns []string, remarks *Remarks) {
	for _, name := range t.header {
		if name != "" && !slices.Contains(columns, name) {
			remarks.note("unknown_column", "unknown columns, not used", name)
		}
	}
}

// get is the current row's value, or "" when the table has no such column.
func (t *table) get(column string) string {
	if i, ok := t.columns[column]; ok {
		return strings.TrimSpace(t.row[i])
	}
	return ""
}

// line is where the current row begins, for errors.
func (t *table) line() int {
	line, _ := t.csv.FieldPos(0)
	return line
}
