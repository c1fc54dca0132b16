package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
	"github.com/mvmae/mvmae/serve/studies"
)

// keeping is the flags of a server that keeps studies.
type keeping struct {
	Data              string            `type:"path" placeholder:"DIR" help:"Keep studies in this folder: what is accepted there is classified, whatever becomes of the server."`
	Quiet             time.Duration     `default:"10s" help:"A study is complete when nothing of it has arrived for so long ..."`
	CompleteWithin    time.Duration     `default:"10m" help:"... or when its first object came so long ago."`
	CompleteOnRelease bool              `help:"... or when its sender has ended the DICOM association that brought it."`
	SameUID           studies.Conflicts `name:"same-uid" default:"both" enum:"both,first,last" help:"Which of two objects with one SOP Instance UID and different bytes is used: both, first or last."`
	Attempts          int               `default:"5" help:"How often a study is tried before it is a dead letter."`
	DiskHigh          int               `default:"90" placeholder:"PERCENT" help:"With more of the disk in use than this, nothing more is taken in."`
	DiskLow           int               `default:"80" placeholder:"PERCENT" help:"With more of the disk in use than this, finished studies are removed before --retain; only if that is given."`
	Retain            time.Duration     `placeholder:"TIME" help:"Remove studies so long after they were finished and every receiver was told (default: never)."`
	Webhook           string            `placeholder:"URL" help:"Send each outcome there, as signed JSON."`
	WebhookSecretFile string            `type:"existingfile" placeholder:"FILE" help:"File with the secret that signs what the webhook is sent."`
	NATS              string            `name:"nats" placeholder:"URL" help:"NATS servers that many servers with one --data folder share work by (default: a queue of this server's own)."`
	NATSReplicas      int               `name:"nats-replicas" default:"3" help:"How many NATS servers hold each piece of work."`
	NATSNamespace     string            `name:"nats-namespace" default:"mvmae" placeholder:"NAME" help:"Another name for each --data folder, where several use the same NATS servers."`
	Sweep             time.Duration     `default:"30s" help:"How often the folder is looked through for studies that a server which died has left."`
	Workers           int               `default:"-1" placeholder:"N" help:"Kept studies classified at a time; 0 leaves them to other servers (default: one per core)."`
}

// open opens the studies with these options and those of the flags, or returns nil where none are kept. fetcher makes what fetches the missing objects of a study.
func (k *keeping) open(ctx context.Context, opts serve.DurableOptions, fetcher func(func() pacs.Archive) (fetch, error)) (*serve.Durable, error) {
	if k.Data == "" {
		return nil, nil
	}
	opts.Quiet, opts.Limit, opts.CompleteOnRelease = k.Quiet, k.CompleteWithin, k.CompleteOnRelease
	opts.Conflicts, opts.Attempts, opts.Retain, opts.Sweep = k.SameUID, k.Attempts, k.Retain, k.Sweep
	opts.DiskHigh, opts.DiskLow = k.DiskHigh, k.DiskLow
	opts.NATS, opts.Replicas, opts.Namespace = k.NATS, k.NATSReplicas, k.NATSNamespace
	if opts.Workers = max(k.Workers, 0); k.Workers == 0 {
		opts.Workers = -1
	}
	if k.Webhook != "" {
		key, err := secret("--webhook-secret-file", k.WebhookSecretFile)
		if err != nil {
			return nil, err
		}
		opts.Sinks = append(opts.Sinks, &serve.Webhook{URL: k.Webhook, Secret: key})
	}
	var durable *serve.Durable
	var err error
	if opts.Fetch, err = fetcher(func() pacs.Archive { return durable.Archive() }); err != nil {
		return nil, err
	}
	durable, err = serve.OpenDurable(ctx, k.Data, opts)
	return durable, err
}

// validate refuses flags that contradict each other.
func (k *keeping) validate() error {
	var errs []error
	refuse := func(wrong bool, cure, format string, args ...any) {
		if wrong {
			errs = append(errs, hint.Wrap(fmt.Errorf(format, args...), "%s", cure))
		}
	}
	for _, f := range []struct {
		flag  string
		given bool
	}{{"--nats", k.NATS != ""}, {"--webhook", k.Webhook != ""}, {"--retain", k.Retain != 0}} {
		refuse(f.given && k.Data == "", "name the folder with --data", "%s is of no use without --data", f.flag)
	}
	refuse(k.Quiet <= 0, "", "--quiet is too small")
	refuse(k.CompleteWithin < k.Quiet, "", "--complete-within is less than --quiet")
	refuse(k.Sweep <= 0, "", "--sweep is too small")
	refuse(k.Attempts < 1, "", "--attempts is too small")
	refuse(k.Retain < 0, "", "--retain is too small")
	refuse(k.DiskLow < 1 || k.DiskLow > k.DiskHigh || k.DiskHigh > 99, "", "--disk-low and --disk-high must be in order, from 1 to 99")
	refuse(k.NATSReplicas < 1 || k.NATSReplicas > 5, "", "--nats-replicas must be from 1 to 5")
	refuse(k.Workers < -1, "", "--workers is too small")
	refuse(k.Workers == 0 && k.NATS == "", "let others work with --nats", "--workers 0 without --nats: nobody would classify anything")
	refuse(strings.Trim(k.NATSNamespace, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || k.NATSNamespace == "", "", "--nats-namespace takes small letters, digits and _")
	if k.Webhook == "" {
		return errors.Join(errs...)
	}
	u, err := url.Parse(k.Webhook)
	refuse(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "", "like https://host/path", "--webhook is no http or https URL")
	refuse(k.WebhookSecretFile == "", "openssl rand -hex 32 > FILE", "--webhook needs --webhook-secret-file")
	_, err = secret("--webhook-secret-file", k.WebhookSecretFile)
	return errors.Join(append(errs, err)...)
}
