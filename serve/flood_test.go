package serve

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mvmae/mvmae/serve/servetest"
)

// A connection that sends a byte a second never sends nothing for long, and is cut off all the same. Time is synctest's.
func TestFlood_SlowLoris(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, body = 20, time.Minute
		s := readyServer(t, &fakeModel{}, ServerOptions{ReadTimeout: body, Studies: 2 * clients})
		network, stop, stopped := running(t, s)
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/dicom\r\nContent-Length: 100000\r\n\r\n", pathClassify)
		type cut struct {
			after  time.Duration
			answer string
		}
		cuts := map[string]chan cut{"": make(chan cut, clients), head: make(chan cut, clients)}
		var writers sync.WaitGroup
		for at, done := range cuts {
			for range clients {
				conn, err := network.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				writers.Go(func() {
					text := at + strings.Repeat("G", 1000)
					io.WriteString(conn, text[:len(at)])
					for i := len(at); i < len(text); i++ {
						if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
							return
						}
						<-time.After(time.Second)
					}
				})
				go func() {
					answer, _ := io.ReadAll(conn)
					conn.Close()
					done <- cut{time.Since(start), string(answer)}
				}()
			}
		}
		for at, limit := range map[string]time.Duration{"": headerTimeout, head: body} {
			for range clients {
				if c := <-cuts[at]; c.after > limit+2*time.Second || at != "" && !strings.HasPrefix(c.answer, "HTTP/1.1 408 ") {
					t.Errorf("cut off after %v: %q", c.after, c.answer)
				}
			}
		}
		if n := len(s.house); n != 0 {
			t.Errorf("%d studies are still in the house", n)
		}
		if err := network.ask(t.Context(), typeDICOM, servetest.Object{}.Bytes(t)); err != nil {
			t.Errorf("an honest caller: %v", err)
		}
		writers.Wait()
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestFlood_HugeHeaders(t *testing.T) {
	address := secured(t, readyServer(t, &fakeModel{}, ServerOptions{}))
	for name, header := range map[string]http.Header{
		"one":  {"A": {strings.Repeat("a", 1<<20)}},
		"many": {"A": strings.Split(strings.Repeat("a ", 1<<19), " ")},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+pathLive, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = header
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: status %d", name, response.StatusCode)
		}
	}
}

// manyNames is an archive whose directory names its one file n times: what it inflates to is not bounded by its size.
func manyNames(t *testing.T, data []byte, n int) []byte {
	t.Helper()
	archive := zipOf(t, []Upload{{Name: "00", Data: data}})
	at := bytes.LastIndex(archive, []byte("PK\x01\x02"))
	end := bytes.LastIndex(archive, []byte("PK\x05\x06"))
	entry, tail := archive[at:end], bytes.Clone(archive[end:])
	out := bytes.Clone(archive[:at])
	for i := range n {
		copy(entry[46:], fmt.Sprintf("%02d", i))
		out = append(out, entry...)
	}
	binary.LittleEndian.PutUint16(tail[8:], uint16(n))
	binary.LittleEndian.PutUint16(tail[10:], uint16(n))
	binary.LittleEndian.PutUint32(tail[12:], uint32(n*len(entry)))
	return append(out, tail...)
}

// saysSmall is an archive of one file whose directory says that it inflates to ten bytes.
func saysSmall(archive []byte) []byte {
	lying := bytes.Clone(archive)
	at := bytes.LastIndex(lying, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(lying[at+24:], 10)
	return lying
}

func TestFlood_ZipBomb(t *testing.T) {
	const mib = 1 << 20
	limits := Limits{RequestBytes: 8 * mib, FileBytes: 2 * mib, Files: 64}
	zeros := make([]byte, 256*mib)
	inner := zipOf(t, []Upload{{Name: "a", Data: zeros}})
	for _, c := range []struct {
		name string
		body []byte
		code string
	}{
		{"one large file", inner, "file_too_large"},
		{"one file under many names", manyNames(t, zeros[:mib], 60), "request_too_large"},
		{"a file that says it is small", saysSmall(inner), "malformed_zip"},
		{"a bomb in an archive", zipOf(t, []Upload{{Name: "inner.zip", Data: inner}}), "no_usable_view"},
	} {
		if len(c.body) > mib {
			t.Fatalf("%s: %d bytes are no bomb", c.name, len(c.body))
		}
		s := readyServer(t, &fakeModel{}, ServerOptions{Limits: limits})
		var w *httptest.ResponseRecorder
		used := memory(func() { w = post(s, typeZip, bytes.NewReader(c.body)) })
		if p := problemOf(t, w); p.Code != c.code || used > 64*mib {
			t.Errorf("%s: %+v, %d MiB allocated", c.name, p, used/mib)
		}
	}
}

// forever repeats a text after another, and counts what was taken of it.
type forever struct {
	first, then string
	taken       int
}

func (f *forever) Read(p []byte) (int, error) {
	if f.first == "" {
		f.first = f.then
	}
	n := copy(p, f.first)
	f.first = f.first[n:]
	f.taken += n
	return n, nil
}

func TestFlood_Multipart(t *testing.T) {
	const mib = 1 << 20
	s := readyServer(t, &fakeModel{}, ServerOptions{Limits: Limits{RequestBytes: 32 * mib}})
	for _, c := range []struct {
		name   string
		body   forever
		status int
		taken  int
	}{
		{"endless parts", forever{first: "--b\r\n\r\nx", then: "\r\n--b\r\n\r\nx"}, 413, mib},
		{"endless headers of a part", forever{first: "--b\r\n", then: strings.Repeat("A: b\r\n", 500)}, 400, mib},
		{"an endless header of a part", forever{first: "--b\r\nA: ", then: strings.Repeat("a", 4096)}, 400, mib},
		{"endless text before the first part", forever{then: strings.Repeat("not a part\r\n", 500)}, 400, mib},
		{"endless text in one line before it", forever{then: strings.Repeat("a", 4096)}, 400, mib},
		{"an endless part", forever{first: "--b\r\n\r\n", then: strings.Repeat("x", 4096)}, 413, 33 * mib},
	} {
		var w *httptest.ResponseRecorder
		used := memory(func() { w = post(s, "multipart/form-data; boundary=b", &c.body) })
		if problemOf(t, w); w.Code != c.status || c.body.taken > c.taken || used > 128*mib {
			t.Errorf("%s: status %d after %d bytes with %d MiB allocated: %s", c.name, w.Code, c.body.taken, used/mib, w.Body)
		}
	}
}

// What a chunked body costs beside its data is bounded by net/http (CVE-2023-39326): of megabytes of extensions, and of chunks of a byte, little is read.
func TestFlood_Chunks(t *testing.T) {
	const mib = 1 << 20
	address := secured(t, readyServer(t, &fakeModel{}, ServerOptions{}))
	for name, c := range map[string]forever{
		"an endless extension": {first: "1;", then: strings.Repeat("a", 4096)},
		"endless extensions":   {then: "1;" + strings.Repeat("a", 2048) + "\r\nx\r\n"},
		"endless trailers":     {first: "0\r\n", then: strings.Repeat("A: b\r\n", 500)},
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/dicom\r\nTransfer-Encoding: chunked\r\n\r\n", pathClassify)
		sent := make(chan int64, 1)
		go func() {
			n, _ := io.Copy(conn, io.LimitReader(&c, 64*mib)) // until the server has had enough
			sent <- n
		}()
		answer, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
		if n := <-sent; n > 32*mib {
			t.Errorf("%s: %d bytes were taken", name, n)
		}
		conn.Close()
	}
}
