package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cluster adds three NATS servers and returns their addresses.
func (w *world) cluster() (urls string, err error) {
	const nodes = 3
	ports, err := freePorts(2 * nodes)
	if err != nil {
		return "", err
	}
	var clients, routes []string
	for i := range nodes {
		clients = append(clients, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", ports[nodes+i]))
	}
	for i := range nodes {
		dir, err := w.mkdir(fmt.Sprintf("nats%d", i))
		if err != nil {
			return "", err
		}
		config := fmt.Sprintf(`server_name: n%d
listen: "127.0.0.1:%d"
jetstream { store_dir: %q, sync_interval: always }
cluster { name: faults, listen: "127.0.0.1:%d", routes: [%s] }
`, i, ports[i], filepath.Join(dir, "jetstream"), ports[nodes+i], strings.Join(routes, ", "))
		file := filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return "", err
		}
		w.nats = append(w.nats, &process{name: fmt.Sprintf("nats-server %d", i), start: func(ctx context.Context) (*exec.Cmd, error) {
			cmd := exec.CommandContext(ctx, w.NATS, "-c", file)
			return cmd, cmd.Start()
		}})
	}
	return strings.Join(clients, ","), nil
}
