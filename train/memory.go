package train

import (
	"os"
	"runtime"
	"strings"
	"syscall"
)

// tunables tell glibc to keep what is freed: one heap for all threads, no mappings of their own for large blocks, no trimming. They
// are read before main begins, and nothing else reaches memory that threads have taken already.
const (
	tunablesVariable = "GLIBC_TUNABLES"
	tunables         = "glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=99999999999"
)

// KeepMemory makes the C library keep the memory that XLA frees: by default a step's buffers, gigabytes for preset base, go back to
// the system after every step, and the next step waits for the kernel to clear them anew, page by page. On Linux it
// starts the program once more, in the same process, with the environment that says so, and takes that back out of the
// environment; other C libraries than glibc ignore it. Programs call it first. Where that fails they are slower, nothing else.
func KeepMemory() {
	if runtime.GOOS != "linux" {
		return
	}
	value := os.Getenv(tunablesVariable)
	if users, again := strings.CutSuffix(value, tunables); again {
		if users = strings.TrimSuffix(users, ":"); users == "" {
			os.Unsetenv(tunablesVariable)
		} else {
			os.Setenv(tunablesVariable, users)
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	env := []string{tunablesVariable + "=" + strings.TrimPrefix(value+":"+tunables, ":")}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, tunablesVariable+"=") {
			env = append(env, e)
		}
	}
	_ = syscall.Exec(self, os.Args, env) // returns only if it fails
}
