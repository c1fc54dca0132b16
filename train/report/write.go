package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// What Write leaves in its folder.
const (
	MarkdownFile = "report.md" // all tables, with the figures
	figureFolder = "figures"
	tableFolder  = "tables"
)

// Write leaves every table as CSV, all of them in report.md, and the figures as SVG and PNG, in dir. It returns the names of
// the files.
func (c Comparison) Write(dir string) (files []string, err error) {
	tables := c.Tables()
	drawn, err := figures(tables)
	if err != nil {
		return nil, err
	}
	write := func(name string, body []byte) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		files = append(files, name)
		return model.WriteFileAtomic(path, func(w io.Writer) error {
			_, err := w.Write(body)
			return err
		})
	}
	pictures := map[string]string{}
	for _, f := range drawn {
		pictures[f.name] = figureFolder + "/" + f.name + ".svg"
		for _, format := range []string{"svg", "png"} {
			body, err := f.encode(format)
			if err != nil {
				return nil, err
			}
			if err := write(filepath.Join(figureFolder, f.name+"."+format), body); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range tables {
		if len(t.Rows) == 0 {
			continue
		}
		body, err := t.CSV()
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Name, err)
		}
		if err := write(filepath.Join(tableFolder, t.Name+".csv"), body); err != nil {
			return nil, err
		}
	}
	return files, write(MarkdownFile, c.markdown(tables, pictures))
}

func (c Comparison) markdown(tables []Table, pictures map[string]string) []byte {
	var b bytes.Buffer
	runs := 0
	for _, g := range c.Groups {
		runs += len(g.Runs)
	}
	fmt.Fprintf(&b, "# %d runs compared\n\nResearch use only.\n\n", runs)
	for _, left := range c.Left {
		fmt.Fprintf(&b, "- left out: %s\n", left)
	}
	for _, t := range tables {
		b.WriteString("\n" + t.Markdown())
		if at, ok := pictures[t.Name]; ok {
			fmt.Fprintf(&b, "\n![%s](%s)\n", t.Title, at)
		}
	}
	return b.Bytes()
}

// fileName is a name with what file systems dislike replaced.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
}
