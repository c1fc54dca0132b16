package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/mvmae/mvmae/serve/queue"
	"github.com/mvmae/mvmae/serve/studies"
)

// classify answers the study of a task, as it is now: objects may have come since the task was published. Its error means that
// it is to be tried again.
func (d *Durable) classify(ctx context.Context, models *Models, t queue.Task) error {
	st, err := d.store.Study(t.Study)
	if err != nil {
		return err
	}
	if st == nil || st.Current() != nil { // removed, or the task was handed out twice
		return nil
	}
	if st.Stat() {
		ctx = Stat(ctx)
	}
	version := st.Version()
	tried, reason, err := d.store.Attempts(st.UID, version)
	if err != nil {
		return err
	}
	if tried >= d.opts.Attempts {
		if reason == "" {
			reason = fmt.Sprintf("the server ended while it worked on the study, %d times", tried)
		}
		return d.conclude(ctx, st, studies.Outcome{State: studies.Dead, Attempts: tried, Reason: reason})
	}
	if err := d.opts.Audit.Check(); err != nil { // no try of the study's: it waits for the log
		return err
	}
	if err := d.note(st.UID, version, studies.Began, ""); err != nil {
		return err
	}
	tried++
	d.announce(Event{StudyInstanceUID: st.UID, Version: version, State: StateRunning})
	inside, end := d.opts.Telemetry.tracer.Try(ctx, d.opts.UIDKey.Hash(st.UID))
	outcome, err := d.answer(inside, models, st)
	end(string(outcome.State), err != nil)
	if err != nil {
		d.opts.Logger.Error("classify a study", "study", d.opts.UIDKey.Hash(st.UID), "attempt", tried, "error", err)
		if noted := d.note(st.UID, version, studies.Failed, err.Error()); noted != nil || tried < d.opts.Attempts {
			d.announce(Event{StudyInstanceUID: st.UID, Version: version, State: StateQueued})
			return errors.Join(err, noted)
		}
		outcome = studies.Outcome{State: studies.Dead, Reason: err.Error()}
	}
	outcome.Attempts = tried
	return d.conclude(ctx, st, outcome)
}

func (d *Durable) note(uid, version, event, reason string) error {
	return d.store.Note(uid, version, event, d.opts.Server, reason)
}

// conclude makes an outcome durable and sends it on. Of two servers that do so for one version only one succeeds.
func (d *Durable) conclude(ctx context.Context, st *studies.Study, o studies.Outcome) error {
	made, err := d.store.PutOutcome(st, o)
	if errors.Is(err, studies.ErrGone) {
		return nil
	}
	if err != nil || !made {
		return err
	}
	var refusal Problem
	_ = json.Unmarshal(o.Problem, &refusal) // of a study that was not refused there is none
	d.opts.Telemetry.kept(string(o.State), refusal.Code)
	d.opts.Logger.Info("study", "study", d.opts.UIDKey.Hash(st.UID), "state", string(o.State), "objects", len(st.Objects), "attempts", o.Attempts)
	o.StudyInstanceUID, o.Version = st.UID, st.Version()
	d.announce(Event{StudyInstanceUID: st.UID, Version: o.Version, State: string(o.State)})
	if err := d.send(ctx, st, &o, true); err != nil {
		d.opts.Logger.Warn("put an outcome into the queue", "error", err) // the next sweep does it
	}
	return nil
}

// answer classifies a study. Its error is one that another try may not meet.
func (d *Durable) answer(ctx context.Context, models *Models, st *studies.Study) (studies.Outcome, error) {
	engine, release, err := models.Use("", "")
	if err != nil {
		return studies.Outcome{}, err
	}
	defer release()
	start := time.Now()
	result, err := engine.Classify(ctx, d.uploads(st))
	var p *Problem
	if errors.As(err, &p) {
		text, err := json.Marshal(p)
		if err != nil {
			return studies.Outcome{}, err
		}
		return studies.Outcome{State: studies.Refused, Problem: text}, d.audit(st, engine, studies.Refused, text, start)
	}
	if err != nil {
		return studies.Outcome{}, err
	}
	for i := range result.Views {
		v := &result.Views[i]
		if slices.ContainsFunc(st.Objects, func(o studies.Object) bool { return o.Conflict && o.SOPInstanceUID == v.SOPInstanceUID }) &&
			!slices.Contains(v.Flags, FlagSharedUID) {
			v.Flags = append(v.Flags, FlagSharedUID)
		}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return studies.Outcome{}, err
	}
	return studies.Outcome{State: studies.Done, Result: text}, d.audit(st, engine, studies.Done, text, start)
}

// audit notes what a study was answered. Who asked is in the sources of its objects.
func (d *Durable) audit(st *studies.Study, engine *Engine, state studies.State, text []byte, start time.Time) error {
	from := st.Objects[0].Source
	return d.opts.Audit.Write(AuditRecord{
		Event: AuditOutcome, Caller: from.AE, Remote: from.Remote, Study: d.opts.UIDKey.Hash(st.UID), Version: st.Version(), State: string(state),
		Model: engine.Model().SHA256, Result: digestOf(text), LatencyMS: milliseconds(time.Since(start)),
	})
}

// uploads reads the objects of a study that are to be used, one after the other. An object that cannot be read ends it: the disk
// may answer the next time.
func (d *Durable) uploads(st *studies.Study) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		for _, o := range st.Used(d.opts.Conflicts) {
			data, err := os.ReadFile(d.store.Path(o))
			if err != nil {
				yield(Upload{}, fmt.Errorf("read object: %w", err))
				return
			}
			if !yield(Upload{Name: o.SOPInstanceUID, Data: data}, nil) {
				return
			}
		}
	}
}

// deliver brings an outcome to a sink.
func (d *Durable) deliver(ctx context.Context, sink Sink, t queue.Task) error {
	st, err := d.store.Study(t.Study)
	if err != nil {
		return err
	}
	if st == nil {
		return nil
	}
	i := slices.IndexFunc(st.Outcomes, func(o studies.Outcome) bool { return o.Version == t.Version })
	if i < 0 || !slices.Contains(d.store.Unsent(&st.Outcomes[i]), sink.Name()) {
		return nil // taken back, or confirmed already
	}
	o, err := d.store.Outcome(t.Study, t.Version)
	if err == nil {
		err = sink.Deliver(ctx, st, o)
	}
	if err == nil {
		err = d.store.Sent(t.Study, t.Version, sink.Name())
	}
	if errors.Is(err, studies.ErrGone) {
		return nil
	}
	if err != nil {
		d.opts.Logger.Warn("deliver an outcome", "sink", sink.Name(), "study", d.opts.UIDKey.Hash(t.Study), "error", err)
	}
	return err
}
