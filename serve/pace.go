package serve

import (
	"io"
	"net/http"
	"time"
)

// paced is a request's body that may take so long to arrive, counted while it is read: a server that has no worker for the
// next file does not read, and that is not the caller's slowness. It must not be read past its end, which http.MaxBytesReader
// sees to: net/http waits there for the caller to leave, for which there is no deadline.
type paced struct {
	body    io.Reader
	control *http.ResponseController
	left    time.Duration
}

// pace takes the body's deadline over from net/http, whose own runs from the first byte of the request on.
func pace(w http.ResponseWriter, body io.Reader, timeout time.Duration) *paced {
	return &paced{body: body, control: http.NewResponseController(w), left: timeout}
}

func (p *paced) Read(b []byte) (int, error) {
	start := time.Now()
	// The error is that of a test without a connection.
	_ = p.control.SetReadDeadline(start.Add(p.left))
	n, err := p.body.Read(b)
	p.left -= time.Since(start)
	return n, err
}

func (p *paced) Close() error { return nil } // net/http closes the body
