package pacs

import (
	"context"
	"fmt"
	"slices"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/internal/hint"
)

// Level is a level of the study root information model (PS3.4 C.6.2).
type Level string

const (
	StudyLevel  Level = "STUDY"
	SeriesLevel Level = "SERIES"
	ImageLevel  Level = "IMAGE"
)

func (l Level) element() dicom.Element {
	return dicom.Element{Tag: tag.QueryRetrieveLevel, Value: string(l)}
}

// pending says whether more responses follow (PS3.4 C.4.1.1.4).
func pending(s Status) bool { return s == StatusPending || s == StatusPendingWarning }

// Find asks the peer what it has (C-FIND). keys are what to match, and empty what to return; each answer is yielded, until
// that returns false. The association needs a [Proposal] for [StudyRootFind].
func (c *Client) Find(ctx context.Context, level Level, keys []dicom.Element, yield func(dicom.Header) bool) error {
	cmd := &command{Field: cFindRQ, SOPClass: StudyRootFind}
	k, err := c.begin(ctx, cmd, append(slices.Clone(keys), level.element()))
	if err != nil {
		return err
	}
	for {
		m, err := c.response(ctx, cmd)
		if err != nil {
			return err
		}
		if !pending(m.Status) {
			if m.Status == StatusCancelled {
				return nil
			}
			return m.end()
		}
		if m.data == nil {
			return c.link.breach(ctx, "an answer to a query without a data set")
		}
		set, err := m.identifier()
		if err != nil {
			return err
		}
		if yield != nil && !yield(set) {
			yield = nil
			if err := c.link.send(ctx, k, &command{Field: cCancelRQ, RespondedTo: cmd.MessageID}, nil); err != nil {
				return err
			}
		}
	}
}

// Moved is how many objects a C-MOVE was about.
type Moved struct{ Completed, Failed, Warning int }

// Move asks the peer to send objects to another application, which it must know by its AE title (C-MOVE). The association
// needs a [Proposal] for [StudyRootMove].
func (c *Client) Move(ctx context.Context, level Level, destination string, keys []dicom.Element) (Moved, error) {
	cmd := &command{Field: cMoveRQ, SOPClass: StudyRootMove, Destination: destination}
	if _, err := c.begin(ctx, cmd, append(slices.Clone(keys), level.element())); err != nil {
		return Moved{}, err
	}
	for {
		m, err := c.response(ctx, cmd)
		if err != nil {
			return Moved{}, err
		}
		done := Moved{int(m.Completed), int(m.Failed), int(m.Warning)}
		if !pending(m.Status) {
			// An unknown destination has a status of its own, A801, but Orthanc says C000.
			return done, hint.Wrap(m.end(), "see that %s lists AE title %s with its host and port, and reaches it there", c.node.AE, destination)
		}
		if m.data != nil {
			if err := m.data.discard(maxIdentifierBytes); err != nil {
				return done, err
			}
		}
	}
}

// begin sends the request of a query and returns the presentation context.
func (c *Client) begin(ctx context.Context, cmd *command, keys []dicom.Element) (byte, error) {
	k, err := c.context(cmd.SOPClass, "")
	if err != nil {
		return 0, err
	}
	set, err := encodeSet(k.TransferSyntaxes[0], keys)
	if err != nil {
		return 0, fmt.Errorf("query: %w", err)
	}
	return k.ID, c.request(ctx, k.ID, cmd, set)
}

// end takes the last response of several.
func (m *message) end() error {
	if m.data != nil {
		if err := m.data.discard(maxIdentifierBytes); err != nil {
			return err
		}
	}
	return m.failure()
}

// Completion is what [Complete] did for a study.
type Completion struct {
	Known   int // objects that the peer has and we may want
	Missing int // of these, that we did not hold
	Moved
}

// Complete fetches what we miss of a study: it asks the peer for the study's radiographs, the archive which of them it
// holds, and has the peer send the rest to destination, our own AE title (C-FIND, C-MOVE).
func Complete(ctx context.Context, from Node, opt ClientOptions, archive Archive, destination, studyUID string) (done Completion, err error) {
	c, err := Dial(ctx, from, opt, Proposal{SOPClass: StudyRootFind}, Proposal{SOPClass: StudyRootMove})
	if err != nil {
		return done, err
	}
	defer c.Close(ctx)
	var series []string
	study := dicom.Element{Tag: tag.StudyInstanceUID, Value: studyUID}
	err = c.Find(ctx, SeriesLevel, []dicom.Element{study, {Tag: tag.SeriesInstanceUID}, {Tag: tag.Modality}}, func(h dicom.Header) bool {
		if wantedModalities[h.String(tag.Modality)] {
			series = append(series, h.String(tag.SeriesInstanceUID))
		}
		return true
	})
	if err != nil {
		return done, fmt.Errorf("ask %s for the series of a study: %w", from.AE, err)
	}
	for _, uid := range series {
		where := []dicom.Element{study, {Tag: tag.SeriesInstanceUID, Value: uid}}
		if err := c.completeSeries(ctx, archive, destination, where, &done); err != nil {
			return done, err
		}
	}
	return done, nil
}

// wantedModalities are those of the objects that are received; a series without one may be of them.
var wantedModalities = map[string]bool{"": true, "CR": true, "DX": true, "DR": true, "RG": true, "OT": true, "SC": true}

func (c *Client) completeSeries(ctx context.Context, archive Archive, destination string, where []dicom.Element, done *Completion) error {
	var known []Reference
	err := c.Find(ctx, ImageLevel, append(slices.Clone(where), dicom.Element{Tag: tag.SOPClassUID}, dicom.Element{Tag: tag.SOPInstanceUID}), func(h dicom.Header) bool {
		if class := h.String(tag.SOPClassUID); class == "" || stored[class] { // a class is no key that a peer must know
			known = append(known, Reference{class, h.String(tag.SOPInstanceUID)})
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("ask %s for the objects of a series: %w", c.node.AE, err)
	}
	done.Known += len(known)
	var missing []string
	for _, r := range known {
		held, err := archive.Holds(ctx, r.SOPClassUID, r.SOPInstanceUID)
		if err != nil {
			return err
		}
		if !held {
			missing = append(missing, r.SOPInstanceUID)
		}
	}
	done.Missing += len(missing)
	if len(missing) == 0 {
		return nil
	}
	moved, err := c.Move(ctx, ImageLevel, destination, append(slices.Clone(where), dicom.Element{Tag: tag.SOPInstanceUID, Value: missing}))
	done.Completed += moved.Completed
	done.Failed += moved.Failed
	done.Warning += moved.Warning
	if err != nil {
		return fmt.Errorf("have %s send the objects of a series to %s: %w", c.node.AE, destination, err)
	}
	return nil
}
