package serve

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mvmae/mvmae/serve/studies"
)

// Webhook is a Sink: an HTTP server that is sent each outcome as JSON.
//
// The header Mvmae-Signature is "t=SECONDS,v1=HEX": the time of sending in seconds since 1970 and the HMAC-SHA-256, with the
// shared secret, of these seconds, a period and the body. A receiver checks it, refuses what is older than it can accept, and
// answers 2xx. Any other answer, or none, means that the outcome is sent again later; Mvmae-Delivery, the outcome's version,
// tells repetitions.
type Webhook struct {
	URL    string
	Secret []byte
	Client *http.Client // default: one that waits 10 s and follows no redirect
}

// WebhookEvent is what a Webhook is sent.
type WebhookEvent struct {
	Event string `json:"event"` // study.done, study.refused or study.dead
	studies.Outcome
}

// The headers of a webhook's request.
const (
	headerSignature = "Mvmae-Signature"
	headerDelivery  = "Mvmae-Delivery"
)

// Name is the sink's name.
func (w *Webhook) Name() string { return "webhook" }

// Deliver sends an outcome.
func (w *Webhook) Deliver(ctx context.Context, _ *studies.Study, o *studies.Outcome) error {
	body, err := json.Marshal(WebhookEvent{"study." + string(o.State), *o})
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(headerSignature, w.sign(time.Now(), body))
	r.Header.Set(headerDelivery, o.Version)
	answer, err := cmp.Or(w.Client, webhookClient).Do(r)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("webhook: it answered %s", answer.Status)
	}
	return nil
}

var webhookClient = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (w *Webhook) sign(at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, w.Secret)
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
