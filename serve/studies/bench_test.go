package studies

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/mvmae/mvmae/serve/servetest"
)

// BenchmarkKeep is one object of 10 MB, durable, into a study of its own.
func BenchmarkKeep(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	padding := make([]byte, 10<<20)
	n := 0
	for b.Loop() {
		n++
		data := append(servetest.Object{Study: fmt.Sprintf("1.2.%d", n)}.Bytes(b), padding...)
		b.SetBytes(int64(len(data)))
		if _, err := s.Keep(b.Context(), bytes.NewReader(data), Source{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is the start of a server that holds 2,000 studies with outcomes, and a sweep of them in which nothing changed.
func BenchmarkOpen(b *testing.B) {
	const held = 2000
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range held {
		uid := fmt.Sprintf("1.2.%d", i)
		for _, o := range servetest.Study(uid, 1) {
			if _, err := s.Keep(b.Context(), bytes.NewReader(o.Bytes(b)), Source{}); err != nil {
				b.Fatal(err)
			}
		}
		st, err := s.Study(uid)
		if err == nil {
			_, err = s.PutOutcome(st, Outcome{State: Done})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s = nil
			runtime.GC()
			runtime.ReadMemStats(&before)
			if s, err = Open(dir, Options{}); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/held, "µs/study")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/held, "B/study")
	})
	b.Run("sweep", func(b *testing.B) {
		for b.Loop() {
			if err := s.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/held, "µs/study")
	})
}
