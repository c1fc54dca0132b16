package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve/api"
	"github.com/mvmae/mvmae/serve/client"
)

// QueueCmd shows the dead letters of a server and decides about them.
type QueueCmd struct {
	List    QueueListCmd    `cmd:"" help:"Show the studies in a state, dead letters if none is named."`
	Retry   QueueRetryCmd   `cmd:"" help:"Try dead letters again."`
	Discard QueueDiscardCmd `cmd:"" help:"Give dead letters up."`
}

// running is the flag of the server that is asked.
type running struct {
	Server    string `default:"http://127.0.0.1:8080" placeholder:"URL" help:"The running server."`
	TokenFile string `type:"existingfile" placeholder:"FILE" help:"File with the token that the server knows us by."`
	ServerCA  string `name:"server-ca" type:"existingfile" placeholder:"FILE" help:"Certificates that vouch for the server (default: the system's)."`
	Cert      string `type:"existingfile" and:"cert" placeholder:"FILE" help:"Our certificate, for a server that asks for one ..."`
	Key       string `type:"existingfile" and:"cert" placeholder:"FILE" help:"... and its key."`
}

// QueueListCmd shows studies.
type QueueListCmd struct {
	running `embed:""`
	State   string `default:"dead" enum:"receiving,queued,running,done,refused,dead,discarded" help:"The state: receiving, queued, running, done, refused, dead or discarded."`
}

// chosen are the studies that a decision is about.
type chosen struct {
	running `embed:""`
	All     bool     `help:"All dead letters."`
	Studies []string `arg:"" optional:"" name:"study" help:"Study Instance UIDs."`
}

// QueueRetryCmd tries dead letters again.
type QueueRetryCmd struct {
	chosen `embed:""`
}

// QueueDiscardCmd gives dead letters up.
type QueueDiscardCmd struct {
	chosen `embed:""`
}

// letter is a study in the list.
type letter struct {
	api.StudySummary
	Reason string `json:"reason,omitempty"`
}

func (c *QueueListCmd) Run(ctx context.Context, out *cli.Output) error {
	ask, err := c.client()
	if err != nil {
		return err
	}
	defer ask.HTTP.CloseIdleConnections()
	letters, err := list(ctx, ask, c.State)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', 0)
	if !out.JSON {
		for _, l := range letters {
			fmt.Fprintf(table, "%s\t%s\t%d tries\t%s\t%s\n", l.StudyInstanceUID, l.State, l.Attempts, l.Received.Format(time.RFC3339), l.Reason)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return out.Result(map[string]any{"studies": letters})
}

func (c *QueueRetryCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.decide(ctx, out, "retry", (*client.Client).Retry)
}

func (c *QueueDiscardCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.decide(ctx, out, "discard", (*client.Client).Discard)
}

// decide does the same to each study. One that fails leaves the others alone.
func (c *chosen) decide(ctx context.Context, out *cli.Output, name string, what func(*client.Client, context.Context, string) (*client.Study, error)) error {
	if c.All == (len(c.Studies) > 0) {
		return cli.Exit(cli.ExitUsage, hint.Wrap(errors.New("which dead letters?"), "name their studies, or say --all"))
	}
	ask, err := c.client()
	if err != nil {
		return err
	}
	defer ask.HTTP.CloseIdleConnections()
	uids := c.Studies
	if c.All {
		letters, err := list(ctx, ask, "dead")
		if err != nil {
			return err
		}
		for _, l := range letters {
			uids = append(uids, l.StudyInstanceUID)
		}
	}
	var errs []error
	decided := []api.StudySummary{}
	for _, uid := range uids {
		st, err := what(ask, ctx, uid)
		if err != nil {
			errs = append(errs, reached(fmt.Errorf("%s %s: %w", name, uid, err)))
			continue
		}
		decided = append(decided, st.StudySummary)
		out.Printf("%s  %s\n", st.StudyInstanceUID, st.State)
	}
	return errors.Join(append(errs, out.Result(map[string]any{"studies": decided}))...)
}

// list asks for the reason of each dead letter too.
func list(ctx context.Context, ask *client.Client, state string) ([]letter, error) {
	letters := []letter{}
	for st, err := range ask.Studies(ctx, state) {
		if err != nil {
			return nil, reached(err)
		}
		l := letter{StudySummary: st}
		if st.State == "dead" {
			study, err := ask.Study(ctx, st.StudyInstanceUID)
			if err != nil {
				return nil, err
			}
			l.Reason = study.Reason
		}
		letters = append(letters, l)
	}
	return letters, nil
}

// reached adds the cure to the error of a server that is not there.
func reached(err error) error {
	var unreached *url.Error
	if errors.As(err, &unreached) {
		return hint.Wrap(err, "is the server running? --server says where")
	}
	return err
}

// client is how the server is called. A person who waits for an answer tries again: the program does not.
func (r *running) client() (*client.Client, error) {
	if u, err := url.Parse(r.Server); err != nil || u.Host == "" {
		return nil, cli.Exit(cli.ExitUsage, hint.Wrap(fmt.Errorf("--server %s is no address", r.Server), "like http://127.0.0.1:8080"))
	}
	c := &client.Client{URL: r.Server, Tries: 1}
	if r.TokenFile != "" {
		token, err := os.ReadFile(r.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		c.Token = strings.TrimSpace(string(token))
	}
	secure, err := clientTLS(r.Cert, r.Key, r.ServerCA)
	if err != nil {
		return nil, err
	}
	c.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure}}
	return c, nil
}
