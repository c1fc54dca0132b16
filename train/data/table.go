package data

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
)

// table reads a CSV file by the names of its columns.
type table struct {
	path    string
	file    *os.File
	csv     *csv.Reader
	columns map[string]int
	header  []string
	row     []string
}

// openTable opens path and reads its header. The caller closes it.
func openTable(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	t := &table{path: path, file: f, csv: csv.NewReader(f), columns: map[string]int{}}
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
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	t.row = row
	return err
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
