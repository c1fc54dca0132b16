package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mvmae/mvmae/serve/api"
)

// Client calls one server. Its methods may be called from many goroutines.
type Client struct {
	URL   string       // where the server is: http://127.0.0.1:8080
	Token string       // for a server that asks for one
	HTTP  *http.Client // with the TLS that the server wants; nil is http.DefaultClient
	Tries int          // of each request, the first one included; 0 is 5
}

// Study is a study that is kept.
type Study struct {
	api.StudySummary
	Rejected []api.Rejection `json:"rejected"` // the objects that Submit sent in vain
	Result   *api.Result     `json:"result"`   // of a study that is done
	Problem  *api.Problem    `json:"problem"`  // of one that was refused: why
	Reason   string          `json:"reason"`   // of a dead letter
}

// Finished says whether nothing more becomes of the study by itself.
func (s *Study) Finished() bool {
	switch s.State {
	case "done", "refused", "dead", "discarded":
		return true
	}
	return false
}

// Classify answers one study.
func (c *Client) Classify(ctx context.Context, study Objects) (*api.Result, error) {
	return post[api.Result](ctx, c, "/v1/studies:classify", study)
}

// Submit has a study taken in for good. When it returns all objects but the rejected ones are durable.
func (c *Client) Submit(ctx context.Context, study Objects) (*Study, error) {
	return post[Study](ctx, c, "/v1/studies", study)
}

// Study says what has become of a study.
func (c *Client) Study(ctx context.Context, uid string) (*Study, error) {
	return ask[Study](ctx, c, http.MethodGet, "/v1/studies/"+url.PathEscape(uid))
}

// Retry tries a dead letter again as if it were new.
func (c *Client) Retry(ctx context.Context, uid string) (*Study, error) {
	return ask[Study](ctx, c, http.MethodPost, "/v1/studies/"+url.PathEscape(uid)+"/retry")
}

// Discard gives a dead letter up.
func (c *Client) Discard(ctx context.Context, uid string) (*Study, error) {
	return ask[Study](ctx, c, http.MethodPost, "/v1/studies/"+url.PathEscape(uid)+"/discard")
}

// Studies yields the studies in a state, all if it is "", the one that an object came for last first. It ends after an error.
func (c *Client) Studies(ctx context.Context, state string) iter.Seq2[api.StudySummary, error] {
	return func(yield func(api.StudySummary, error) bool) {
		for path := "/v1/studies?" + (url.Values{"limit": {"1000"}, "state": {state}}).Encode(); path != ""; {
			page, err := ask[api.StudyList](ctx, c, http.MethodGet, path)
			if err != nil {
				yield(api.StudySummary{}, err)
				return
			}
			for _, st := range page.Studies {
				if !yield(st, nil) {
					return
				}
			}
			path = page.Next
		}
	}
}

// Wait returns a study when it is finished.
func (c *Client) Wait(ctx context.Context, uid string) (*Study, error) {
	for {
		// The events say when it is time to look. A stream that ends early is no harm: what counts is the study.
		listened := c.listen(ctx, uid)
		study, err := c.Study(ctx, uid)
		if err != nil || study.Finished() {
			return study, err
		}
		if listened != nil {
			if err := pause(ctx, time.Second); err != nil {
				return nil, err
			}
		}
	}
}

// listen returns when the events say that a study is finished, or end.
func (c *Client) listen(ctx context.Context, uid string) error {
	response, err := c.once(ctx, http.MethodGet, "/v1/events?study="+url.QueryEscape(uid), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, found := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		var st Study
		if found && json.Unmarshal(data, &st) == nil && st.Finished() {
			return nil
		}
	}
	return cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
}

// body makes the body of a request anew for each try, and says what it is.
type body func() (contentType string, r io.ReadCloser)

func ask[T any](ctx context.Context, c *Client, method, path string) (*T, error) {
	return do[T](ctx, c, method, path, nil)
}

func post[T any](ctx context.Context, c *Client, path string, study Objects) (*T, error) {
	return do[T](ctx, c, http.MethodPost, path, study.form)
}

// do asks until there is an answer that does not pass by itself.
func do[T any](ctx context.Context, c *Client, method, path string, b body) (*T, error) {
	for try, wait := 1, 250*time.Millisecond; ; try, wait = try+1, min(2*wait, 10*time.Second) {
		response, err := c.once(ctx, method, path, b)
		if err == nil {
			defer response.Body.Close()
			doc := new(T)
			if err := json.NewDecoder(response.Body).Decode(doc); err != nil {
				return nil, fmt.Errorf("read the server's answer: %w", err)
			}
			return doc, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		after, passes := passing(err)
		if !passes || try >= cmp.Or(c.Tries, 5) {
			return nil, err
		}
		if err := pause(ctx, max(after, wait)); err != nil {
			return nil, err
		}
	}
}

// passing says whether an error may be another the next time, and when that is.
func passing(err error) (after time.Duration, passes bool) {
	var p *api.Problem
	var unreached *url.Error
	switch {
	case errors.As(err, &p):
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
			return p.RetryAfter, true
		}
		return 0, false
	case errors.As(err, &unreached):
		var local *fileError
		return 0, !errors.As(err, &local)
	}
	return 0, false
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// once sends a request. Its error is a *api.Problem where the server gave one.
func (c *Client) once(ctx context.Context, method, path string, b body) (*http.Response, error) {
	var contentType string
	var content io.ReadCloser
	if b != nil {
		contentType, content = b()
		defer content.Close() // ends who writes it, whatever has become of the request
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, content)
	if err != nil {
		return nil, err
	}
	if b != nil {
		request.Header.Set("Content-Type", contentType)
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	response, err := cmp.Or(c.HTTP, http.DefaultClient).Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	p := &api.Problem{Status: response.StatusCode, Detail: "the server answered " + response.Status}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	_ = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(p) // a proxy's answer has no document
	return nil, p
}
