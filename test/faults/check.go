package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// page is what is needed of a list of studies.
type page struct {
	Studies []struct {
		UID   string `json:"study_instance_uid"`
		State string
	}
	Next string
}

// study is what is needed of a study.
type study struct {
	State, Version, Reason string
	Objects                []struct {
		SOP string `json:"sop_instance_uid"`
	}
	Result struct {
		Views []struct {
			SOP string `json:"sop_instance_uid"`
		}
	}
	Outcomes []struct {
		Version, State string
		Supersedes     string
		SupersededBy   string `json:"superseded_by"`
		Instances      int
	}
}

// get reads a document.
func (w *world) get(ctx context.Context, path string, doc any) error {
	status, answer, err := call(ctx, http.MethodGet, w.servers[0].address()+path, "", "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, answer)
	}
	if err == nil {
		err = json.Unmarshal(answer, doc)
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	return nil
}

// settle waits until every study has its outcome.
func (w *world) settle(ctx context.Context) error {
	for _, p := range w.servers {
		if err := p.ready(ctx, p); err != nil {
			return err
		}
	}
	var err error
	settled := wait(ctx, func() bool {
		for _, state := range []string{"receiving", "queued", "running"} {
			var p page
			if err = w.get(ctx, "/v1/studies?limit=1&state="+state, &p); err != nil || len(p.Studies) > 0 {
				return err != nil
			}
		}
		return true
	})
	if !settled {
		return context.Cause(ctx)
	}
	return err
}

// check compares what the server holds with what it accepted.
func (w *world) check(ctx context.Context) error {
	w.report.Refused = int(w.refused.Load())
	var errs []error
	for uid, accepted := range w.accepted {
		w.report.Studies++
		w.report.Accepted += len(accepted)
		var st study
		if err := w.get(ctx, "/v1/studies/"+uid, &st); err != nil {
			errs = append(errs, err)
			continue
		}
		w.report.Superseded += len(st.Outcomes) - 1
		if err := st.check(accepted); err != nil {
			errs = append(errs, fmt.Errorf("study %s: %w", uid, err))
		}
	}
	var err error
	w.report.Stored, err = checkFiles(w.data)
	return errors.Join(append(errs, err)...)
}

// check says what is wrong with a study of which these objects were accepted.
func (st *study) check(accepted map[string]bool) error {
	if st.State != "done" {
		return fmt.Errorf("it is %s: %s", st.State, st.Reason)
	}
	held, seen := map[string]bool{}, map[string]bool{}
	for _, o := range st.Objects {
		held[o.SOP] = true
	}
	for _, v := range st.Result.Views {
		seen[v.SOP] = true
	}
	for sop := range accepted {
		if !held[sop] || !seen[sop] {
			return fmt.Errorf("object %s was accepted; held: %v, in the result: %v", sop, held[sop], seen[sop])
		}
	}
	if len(held) != len(seen) {
		return fmt.Errorf("%d objects are held, %d are in the result", len(held), len(seen))
	}
	current := 0
	for i, o := range st.Outcomes {
		if o.Version == st.Version {
			current++
		}
		if i > 0 && (o.Supersedes != st.Outcomes[i-1].Version || st.Outcomes[i-1].SupersededBy != o.Version) {
			return fmt.Errorf("version %d is not linked with the one before", i)
		}
	}
	if last := len(st.Outcomes) - 1; current != 1 || st.Outcomes[last].Version != st.Version || st.Outcomes[last].SupersededBy != "" {
		return fmt.Errorf("%d current results", current)
	}
	return nil
}
