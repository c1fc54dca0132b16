package ort

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

// The binding holds one library and one environment for the whole process, in globals of its own; so their guard and
// their path are global too. They live as long as the process: unloading the library while a session is destroyed
// elsewhere would crash.
var environment struct {
	sync.Mutex
	path string
}

// initialise loads ONNX Runtime on the first call and returns the path of the library.
func initialise() (path string, err error) {
	environment.Lock()
	defer environment.Unlock()
	if onnx.IsInitialized() {
		return environment.path, nil
	}
	path, err = libs.Find(libs.ONNXRuntime)
	if err != nil {
		return "", err
	}
	onnx.SetSharedLibraryPath(path)
	// Errors come back as values; what the library would print besides says the same again.
	if err := onnx.InitializeEnvironment(onnx.WithLogLevelFatal()); err != nil {
		return "", translateLoad(path, err)
	}
	environment.path = path
	return path, nil
}

// Version is the version of the loaded ONNX Runtime, and Library its path. Both load it when it is not loaded yet.
func Version() (version, library string, err error) {
	if library, err = initialise(); err != nil {
		return "", "", err
	}
	return onnx.GetVersion(), library, nil
}

// LibraryError says that ONNX Runtime was found but cannot be used. The programs exit with code 4.
type LibraryError struct {
	Path string
	Err  error
}

func (e *LibraryError) Error() string { return fmt.Sprintf("load ONNX Runtime %s: %v", e.Path, e.Err) }
func (e *LibraryError) Unwrap() error { return e.Err }

// ExitCode is that of a missing library.
func (e *LibraryError) ExitCode() int { return 4 }

// translateLoad gives the binding's error in words. The binding asks the library for one version of its interface; a
// library older than that has none to give, of which the binding only says "2".
func translateLoad(path string, err error) error {
	text := err.Error()
	switch {
	case strings.HasSuffix(text, "Error setting ORT API base: 2"):
		return hint.Wrap(&LibraryError{path, errors.New("the library is older than this program, which needs 1.29 or newer")},
			`put ONNX Runtime 1.31.1 or newer there ("make runtime" fetches it), or name its folder in MVMAE_RUNTIME`)
	case strings.Contains(text, "Error setting ORT API base"), strings.Contains(text, "OrtGetApiBase"):
		return hint.Wrap(&LibraryError{path, errors.New("this is not ONNX Runtime")},
			`remove that file, or name the folder of ONNX Runtime 1.31.1 in MVMAE_RUNTIME`)
	}
	return hint.Wrap(&LibraryError{path, err},
		`is the file whole and made for this machine? "make runtime" fetches it anew`)
}
