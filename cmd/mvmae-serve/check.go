package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
)

// check tries everything that up would need, as up would, and says what of it is missing.
func (c *UpCmd) check(ctx context.Context, out *cli.Output) error {
	checks := []check{
		look("address", true, func() (string, error) { return c.tryAddress(ctx) }),
		look("ONNX Runtime", true, onnxRuntime),
		look("models", true, c.tryModels),
		look("codecs", false, func() (string, error) { return codecs(ctx) }),
	}
	add := func(wanted bool, name string, find func() (string, error)) {
		if wanted {
			checks = append(checks, look(name, true, find))
		}
	}
	add(c.TLSCert != "", "TLS", func() (string, error) { _, err := c.secure(); return c.TLSCert, err })
	add(c.Tokens != "", "tokens", func() (string, error) { _, err := c.known(); return c.Tokens, err })
	add(c.Audit != "", "audit log", func() (string, error) {
		audit, err := c.log()
		return c.Audit, errors.Join(err, audit.Close())
	})
	add(c.Data != "", "data", func() (string, error) { return c.tryData(ctx) })
	add(c.Priors.AE != "", "PACS", func() (string, error) { return c.echo(ctx, c.Priors) })
	return report(out, checks)
}

func (c *UpCmd) tryAddress(ctx context.Context) (string, error) {
	ln, err := c.listen(ctx)
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// tryModels loads every model. One that up would leave aside is missing too: somebody put it there.
func (c *UpCmd) tryModels() (string, error) {
	models := c.models(c.engine(nil), slog.New(slog.DiscardHandler))
	defer models.Close()
	if err := models.Load(); err != nil {
		return "", err
	}
	var found []string
	var errs []error
	for _, m := range models.List() {
		if m.State != serve.ModelReady {
			errs = append(errs, hint.Wrap(errors.New(m.Detail), "%s", m.Cure))
			continue
		}
		found = append(found, fmt.Sprintf("%s %s (sha256 %s) on %s", m.Name, m.Version, m.SHA256, m.Device))
	}
	return strings.Join(found, ", "), errors.Join(errs...)
}

// tryData opens the studies, their queue and the DICOM node before them.
func (c *UpCmd) tryData(ctx context.Context) (detail string, err error) {
	durable, receiver, err := c.keep(ctx, serve.DurableOptions{MaxBytes: c.MaxFileMiB << 20})
	if err != nil {
		return "", hint.Wrap(err, "%s", cmp.Or(hint.Of(err), "name a folder that this user may write to with --data"))
	}
	defer durable.Close()
	detail = c.Data
	if receiver != nil {
		detail += ", DICOM at " + receiver.address()
		err = receiver.ln.Close()
	}
	return detail, errors.Join(err, hint.Wrap(durable.Store().Room(), "make room on the disk of %s, or set --disk-high", c.Data))
}
