package data

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
)

// chunkImages are packed between two lines of the journal: 16 MiB of pixels, some second of work.
const chunkImages = 256

// pixels packs every item not yet done, a chunk at a time: the images of a chunk in parallel, the chunks in order, each written
// while the next one is made.
func (w *packer) pixels(ctx context.Context) error {
	w.meter = startMeter(w.opt.Progress, len(w.items))
	if err := w.journal.replay(w.take); err != nil {
		return err
	}
	w.meter.Resume(int64(w.done))
	var writer errgroup.Group // of one chunk at most
	from := w.done
	for items := range slices.Chunk(w.items[from:], w.opt.chunk) {
		e, pixels, err := w.chunk(ctx, from, items)
		if err := cmp.Or(writer.Wait(), err); err != nil {
			return err
		}
		writer.Go(func() error {
			if err := w.journal.append(e, pixels); err != nil {
				return err
			}
			w.take(e, pixels)
			return nil
		})
		from += len(items)
	}
	return writer.Wait()
}

// packed is what became of one item.
type packed struct {
	refusal        *refusal
	sum, sumSquare float64 // of the pixels of cxr.Input, for training images
}

// chunk returns the entry of the items, which begin with number from, and the pixels of those kept, which are valid until the
// call after the next.
func (w *packer) chunk(ctx context.Context, from int, items []item) (e entry, pixels []byte, err error) {
	if w.buffer == nil {
		w.buffer, w.spare = make([]byte, w.opt.chunk*imageBytes), make([]byte, w.opt.chunk*imageBytes)
	}
	w.buffer, w.spare = w.spare, w.buffer
	slot := func(i int) []byte { return w.buffer[i*imageBytes : (i+1)*imageBytes] }
	results := make([]packed, len(items))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(w.opt.Workers)
	if w.opt.Workers <= 0 {
		g.SetLimit(runtime.GOMAXPROCS(0))
	}
	for i, it := range items {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			results[i] = w.image(ctx, it, slot(i))
			w.meter.Add(1)
			return ctx.Err() // what was cut off is no refusal to remember
		})
	}
	if err := g.Wait(); err != nil {
		return e, nil, err
	}
	e.Items = len(items)
	kept := 0
	for i, r := range results {
		if r.refusal != nil {
			r.refusal.Item = from + i
			e.Refused = append(e.Refused, *r.refusal)
			continue
		}
		copy(slot(kept), slot(i)) // a refused image leaves no gap
		kept++
		if items[i].Split == Train {
			e.Inputs++
			e.Sum += r.sum
			e.SumSquare += r.sumSquare
		}
	}
	return e, w.buffer[:kept*imageBytes], nil
}

// image reads one file and puts its stored pixels into stored.
func (w *packer) image(ctx context.Context, it item, stored []byte) (p packed) {
	body, err := w.read(it)
	if err != nil {
		return refused(err)
	}
	var img *cxr.Image
	if isDICOM(body) {
		img, err = cxr.Options{Recipe: w.opt.Recipe, Limits: w.opt.Limits, Codecs: w.opt.Codecs.Decoders(ctx)}.FromDICOM(body)
	} else {
		img, err = cxr.FromPicture(body, w.opt.Recipe)
	}
	if err != nil {
		return refused(err)
	}
	copy(stored, img.Stored)
	if it.Split == Train {
		input := make([]float32, cxr.CropSize*cxr.CropSize)
		cxr.Input(img.Stored, cxr.CropSize, input)
		for _, v := range input {
			p.sum += float64(v)
			p.sumSquare += float64(v) * float64(v)
		}
	}
	return p
}

// The codes of files that never reach dicom/cxr.
const (
	codeMissing    = "missing"
	codeChanged    = "changed"
	codeUnreadable = "unreadable"
)

// refusalText is what a code means, for codes of this package.
func refusalText(code string) string {
	switch code {
	case codeMissing:
		return "whose file is gone"
	case codeChanged:
		return "whose file has changed since it was indexed"
	case codeUnreadable:
		return "whose file cannot be read"
	default:
		return "refused"
	}
}

func (w *packer) read(it item) ([]byte, error) {
	path := filepath.Join(it.root, filepath.FromSlash(it.Path))
	info, err := os.Stat(path)
	if err != nil {
		code := codeUnreadable
		if errors.Is(err, fs.ErrNotExist) {
			code = codeMissing
		}
		return nil, &cxr.Refusal{Code: code, Detail: noPath(err).Error()}
	}
	if info.Size() != it.Bytes {
		return nil, &cxr.Refusal{Code: codeChanged, Detail: fmt.Sprintf("%d bytes, were %d", info.Size(), it.Bytes)}
	}
	if limit := cmp.Or(w.opt.Limits.MaxBytes, dicom.DefaultLimits().MaxBytes); info.Size() > int64(limit) {
		return nil, &dicom.Error{Code: dicom.CodeTooLarge, Detail: fmt.Sprintf("%d bytes, the limit is %d", info.Size(), limit)}
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, &cxr.Refusal{Code: codeUnreadable, Detail: noPath(err).Error()}
	}
	return body, nil
}

func isDICOM(body []byte) bool {
	return len(body) >= 132 && string(body[128:132]) == "DICM"
}

// refused turns any error of reading an image into its code.
func refused(err error) packed {
	code, detail := refusalOf(err)
	return packed{refusal: &refusal{Code: code, Detail: detail}}
}

func refusalOf(err error) (code, detail string) {
	var refusal *cxr.Refusal
	if errors.As(err, &refusal) {
		return refusal.Code, refusal.Detail
	}
	var bad *dicom.Error
	if errors.As(err, &bad) {
		return string(bad.Code), err.Error()
	}
	return codeUnreadable, err.Error()
}
