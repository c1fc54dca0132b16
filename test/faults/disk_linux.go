package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/hint"
)

// FillReport says what came of a disk that filled up.
type FillReport struct {
	MiB         int // of the disk
	Studies     int // accepted until it was full
	Refused     int // requests after that
	UsedPercent float64
	Again       bool // accepted more when finished ones were removed
}

// fullAnswers is how often the server must say that the disk is full.
const fullAnswers = 20

// Fill gives the server a disk of so many MiB and sends studies until it refuses more, by HTTP and by C-STORE. Then it checks that
// every study that was accepted has its result, that the disk is not full to the brim, and that the server takes studies in
// again once it may remove finished ones.
func Fill(ctx context.Context, c Config, mib int) (*FillReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.DICOM = true
	w := &world{Config: c, accepted: map[string]map[string]bool{}, report: Report{Kills: map[string]int{}}}
	if err := w.build(); err != nil {
		return nil, err
	}
	if _, err := w.mkdir("data"); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", w.data, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		return nil, hint.Wrap(fmt.Errorf("mount a disk: %w", err), "run it as root, or in a namespace: unshare -rm go run ./benchmarks/faults -disk %d", mib)
	}
	defer syscall.Unmount(w.data, syscall.MNT_DETACH)
	p := w.servers[0]
	defer func() { p.kill() }()
	if err := errors.Join(p.up(ctx), p.ready(ctx, p)); err != nil {
		return nil, err
	}
	report := &FillReport{MiB: mib}
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	var err error
	if report.Studies, report.Refused, err = w.fill(ctx, rng); err != nil {
		return nil, err
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(w.data, &st); err != nil {
		return nil, err
	}
	report.UsedPercent = 100 * (1 - float64(st.Bavail)/float64(st.Blocks))
	if report.UsedPercent >= 100 {
		return nil, errors.New("the disk is full to the brim")
	}
	if err := errors.Join(w.settle(ctx), w.check(ctx)); err != nil {
		return nil, err
	}
	p.kill()
	p = server(p.name, c.Program, []string{"--model", w.Model, "--data", w.data, "--quiet", "300ms", "--retain", "1ms"})
	w.servers[0] = p
	if err := errors.Join(p.up(ctx), p.ready(ctx, p)); err != nil {
		return nil, err
	}
	wait(ctx, func() bool {
		var status int
		status, err = w.take(ctx, newObject("2.25.1", 1, largeSide, rng))
		return err != nil || status == http.StatusAccepted
	})
	report.Again = err == nil
	return report, errors.Join(err, ctx.Err())
}

// largeSide is that of views of half a megabyte.
const largeSide = 512

// fill sends studies until the server has refused enough of them.
func (w *world) fill(ctx context.Context, rng *rand.Rand) (studies, refused int, err error) {
	for i := 0; refused < fullAnswers; i++ {
		o := newObject(fmt.Sprintf("1.2.826.0.2.%d", i+1), 1, largeSide, rng)
		full := false
		if i%2 == 0 {
			var status int
			status, err = w.take(ctx, o)
			full = status == http.StatusInsufficientStorage
		} else {
			var client *pacs.Client
			client, err = pacs.Dial(ctx, w.nodes[0], pacs.ClientOptions{AETitle: "FAULTS"}, pacs.Proposal{SOPClass: digitalXRay})
			if err == nil {
				err = errors.Join(client.Store(ctx, bytes.NewReader(o.data)), client.Close(ctx))
			}
			var status *pacs.StatusError
			if errors.As(err, &status) && status.Status == pacs.StatusOutOfResources {
				full, err = true, nil
			}
		}
		switch {
		case err != nil:
			return studies, refused, err
		case full:
			refused++
		case refused > 0:
			return studies, refused, errors.New("an object was accepted after the disk was full")
		default:
			studies++
			w.accept(o)
		}
	}
	return studies, refused, nil
}

// take sends one object by HTTP. Any answer but that it is accepted or that the disk is full is an error.
func (w *world) take(ctx context.Context, o object) (status int, err error) {
	status, answer, err := call(ctx, http.MethodPost, w.servers[0].address()+"/v1/studies", "application/dicom", string(o.data))
	if err == nil && status != http.StatusAccepted && status != http.StatusInsufficientStorage {
		err = fmt.Errorf("status %d: %s", status, answer)
	}
	return status, err
}
