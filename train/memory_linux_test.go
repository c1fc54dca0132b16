package train

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestKeepMemory_LeavesTheEnvironment runs this test binary, which starts itself again and must then see what it was given.
func TestKeepMemory_LeavesTheEnvironment(t *testing.T) {
	const asked = "MVMAE_TEST_KEEP_MEMORY"
	if os.Getenv(asked) != "" {
		KeepMemory()
		os.Stdout.WriteString("sees <" + os.Getenv(tunablesVariable) + ">\n")
		return
	}
	for _, users := range []string{"", "glibc.malloc.hugetlb=1"} {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), asked+"=1", tunablesVariable+"="+users)
		out, err := cmd.CombinedOutput()
		if runs := strings.Count(string(out), "=== RUN"); err != nil || runs != 2 || !strings.Contains(string(out), "sees <"+users+">") {
			t.Errorf("with %q: %v\n%s", users, err, out)
		}
	}
}
