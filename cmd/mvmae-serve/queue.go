package main

import (
	"context"
	"encoding/json"
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
	"github.com/mvmae/mvmae/serve"
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
	serve.StudySummary
	Reason string `json:"reason,omitempty"`
}

func (c *QueueListCmd) Run(ctx context.Context, out *cli.Output) error {
	letters, err := c.list(ctx, c.State)
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
	return c.decide(ctx, out, "retry")
}

func (c *QueueDiscardCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.decide(ctx, out, "discard")
}

// decide does the same to each study. One that fails leaves the others alone.
func (c *chosen) decide(ctx context.Context, out *cli.Output, what string) error {
	if c.All == (len(c.Studies) > 0) {
		return cli.Exit(cli.ExitUsage, hint.Wrap(errors.New("which dead letters?"), "name their studies, or say --all"))
	}
	uids := c.Studies
	if c.All {
		letters, err := c.list(ctx, "dead")
		if err != nil {
			return err
		}
		for _, l := range letters {
			uids = append(uids, l.StudyInstanceUID)
		}
	}
	var errs []error
	decided := []serve.StudySummary{}
	for _, uid := range uids {
		var st serve.StudySummary
		if err := c.ask(ctx, http.MethodPost, "/v1/studies/"+url.PathEscape(uid)+"/"+what, &st); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", what, uid, err))
			continue
		}
		decided = append(decided, st)
		out.Printf("%s  %s\n", st.StudyInstanceUID, st.State)
	}
	return errors.Join(append(errs, out.Result(map[string]any{"studies": decided}))...)
}

// list follows the pages, and asks for the reason of each dead letter.
func (r *running) list(ctx context.Context, state string) ([]letter, error) {
	letters := []letter{}
	for path := "/v1/studies?limit=1000&state=" + state; path != ""; {
		var page serve.StudyList
		if err := r.ask(ctx, http.MethodGet, path, &page); err != nil {
			return nil, err
		}
		for _, st := range page.Studies {
			l := letter{StudySummary: st}
			if st.State == "dead" {
				if err := r.ask(ctx, http.MethodGet, "/v1/studies/"+st.StudyInstanceUID, &l); err != nil {
					return nil, err
				}
			}
			letters = append(letters, l)
		}
		path = page.Next
	}
	return letters, nil
}

// client is how the server is called; the token, where there is one, goes into the request.
func (r *running) client(request *http.Request) (*http.Client, error) {
	if r.TokenFile != "" {
		token, err := os.ReadFile(r.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	secure, err := clientTLS(r.Cert, r.Key, r.ServerCA)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure}}, nil
}

// ask asks the server, whose problem becomes an error with its hint.
func (r *running) ask(ctx context.Context, method, path string, doc any) error {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.Server, "/")+path, nil)
	if err != nil {
		return cli.Exit(cli.ExitUsage, hint.Wrap(err, "--server is an address like http://127.0.0.1:8080"))
	}
	client, err := r.client(request)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return hint.Wrap(err, "is the server running? --server says where")
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		var p serve.Problem
		if json.NewDecoder(response.Body).Decode(&p) != nil || p.Code == "" {
			return fmt.Errorf("the server answered %s", response.Status)
		}
		return &p
	}
	if err := json.NewDecoder(response.Body).Decode(doc); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}
