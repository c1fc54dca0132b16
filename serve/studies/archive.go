package studies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mvmae/mvmae/dicom/pacs"
)

// Archive is the store as DIMSE sees it.
type Archive struct {
	Store *Store
	Gate  *Gate
	// CompleteOnRelease takes the end of an association for the sender's word that its studies are complete.
	CompleteOnRelease bool
}

var _ pacs.Archive = (*Archive)(nil)

// Keep stores an object and tells the gate of it.
func (a *Archive) Keep(ctx context.Context, o pacs.Object, part10 io.Reader) error {
	var ended func()
	st, err := a.Store.Stage(ctx, part10, Source{Via: "dimse", AE: o.CallingAE, Remote: o.Remote, Stat: o.Urgent, Sender: o.Association.ID},
		func(begun *Object) { ended = a.Gate.Arriving(begun.StudyInstanceUID) })
	if ended != nil {
		defer ended()
	}
	if err == nil && (st.SOPClassUID != o.SOPClassUID || st.SOPInstanceUID != o.SOPInstanceUID) {
		st.Discard()
		return &pacs.StatusError{Status: pacs.StatusNotMatching, Comment: "UIDs of command and data set differ"}
	}
	if err == nil {
		err = a.Store.Commit(st)
	}
	if err != nil {
		return statusError(err)
	}
	a.Gate.Arrived(st.StudyInstanceUID, st.Source.Sender)
	return nil
}

// statusError says which of Keep's errors the peer is told as what. Those of reading stay as they are.
func statusError(err error) error {
	switch {
	case errors.Is(err, ErrFull):
		return &pacs.StatusError{Status: pacs.StatusOutOfResources, Comment: "disk full", Err: err}
	case errors.Is(err, ErrTooLarge):
		return &pacs.StatusError{Status: pacs.StatusOutOfResources, Comment: "object too large", Err: err}
	case IsRefusal(err):
		return &pacs.StatusError{Status: pacs.StatusNotUnderstood, Comment: err.Error(), Err: err}
	}
	return err
}

// Holds says whether an object is in the store and its file on disk. An empty class is any.
func (a *Archive) Holds(ctx context.Context, sopClassUID, sopInstanceUID string) (bool, error) {
	found, err := a.Store.Find(ctx, sopInstanceUID)
	if err != nil {
		return false, err
	}
	for _, o := range found {
		if sopClassUID != "" && o.SOPClassUID != sopClassUID {
			continue
		}
		info, err := os.Stat(a.Store.Path(o))
		if err != nil || info.Size() != o.Size {
			return false, fmt.Errorf("object %s is in the index and not as it was on disk: %w", o.Digest, err)
		}
		return true, nil
	}
	return false, nil
}

// Released lets the studies of an association go, if that is what a release means.
func (a *Archive) Released(_ context.Context, association pacs.Association) {
	if a.CompleteOnRelease {
		a.Gate.Released(association.ID)
	}
}
