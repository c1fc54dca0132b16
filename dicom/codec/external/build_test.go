package external

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/internal/codecprog"
)

// Where the C libraries are not to be seen, or nothing that could see them, mvmae-codec is built all the same, and refuses what
// it cannot decode by name.
func TestBuild_WithoutTheLibraries(t *testing.T) {
	for name, hide := range map[string]func(t *testing.T, dir string){
		"no libraries": func(t *testing.T, dir string) {
			t.Setenv("PKG_CONFIG_LIBDIR", dir)
			t.Setenv("PKG_CONFIG_PATH", "")
		},
		"no pkg-config": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "pkg-config"), []byte("#!/bin/sh\nexit 127\n"), 0o777); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			hide(t, t.TempDir())
			path, complete, err := codecprog.Build(t.TempDir())
			if err != nil || complete {
				t.Fatalf("complete %t, %v", complete, err)
			}
			p := pool(t, Options{Program: path})
			for _, r := range []Request{jpegls(t), jpeg2000(t)} {
				_, err := p.Decode(t.Context(), r)
				if refused(err) != dicom.CodeUnsupportedSyntax || !strings.Contains(err.Error(), dicom.SyntaxName(r.Syntax)) ||
					!strings.Contains(err.Error(), "built without "+string(LibraryFor(r.Syntax))) {
					t.Error(err)
				}
			}
			t.Setenv(ProgramEnv, path)
			if _, _, err := Examine(t.Context()); err == nil || !strings.Contains(err.Error(), "without CharLS") {
				t.Error(err)
			}
		})
	}
}
