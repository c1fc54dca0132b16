package studies

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// Object is one stored DICOM object.
type Object struct {
	Digest            string    `json:"digest"` // SHA-256 of transfer syntax UID, a zero byte and the data set, in hexadecimal
	StudyInstanceUID  string    `json:"study_instance_uid"`
	SeriesInstanceUID string    `json:"series_instance_uid"`
	SOPClassUID       string    `json:"sop_class_uid"`
	SOPInstanceUID    string    `json:"sop_instance_uid"`
	TransferSyntaxUID string    `json:"transfer_syntax_uid"`
	Size              int64     `json:"size"` // of the Part 10 file, in bytes
	Received          time.Time `json:"received"`
	Source            Source    `json:"source"`
	// Attributes are the values of Indexed elements by keyword, as in PatientName. Absent and empty elements have none.
	Attributes map[string][]string `json:"attributes"`
	// Conflict says that another object of the study has the same SOP Instance UID and other bytes.
	Conflict bool `json:"-"`
}

// Source says where an object came from.
type Source struct {
	Via    string `json:"via,omitempty"`    // dimse, stow or http
	AE     string `json:"ae,omitempty"`     // the sender's AE title
	Remote string `json:"remote,omitempty"` // its network address
	Stat   bool   `json:"stat,omitempty" doc:"The sender wants the study answered before others."`
	// Sender is whatever the object came with: an association, a request. All that has the same Sender is of one piece.
	Sender string `json:"-"`
}

// Indexed are the elements that the index keeps: those that QIDO-RS must match or return (PS3.18 10.6.1.2, 10.6.3.3).
func Indexed() []tag.Tag { return slices.Clone(indexed) }

var indexed = []tag.Tag{
	tag.SpecificCharacterSet, tag.StudyDate, tag.StudyTime, tag.AccessionNumber, tag.Modality, tag.TimezoneOffsetFromUTC,
	tag.ReferringPhysicianName, tag.StudyDescription, tag.SeriesDescription, tag.PatientName, tag.PatientID,
	tag.IssuerOfPatientID, tag.PatientBirthDate, tag.PatientSex, tag.BodyPartExamined, tag.ViewPosition, tag.StudyID,
	tag.SeriesNumber, tag.InstanceNumber, tag.PerformedProcedureStepStartDate, tag.PerformedProcedureStepStartTime,
	tag.NumberOfFrames, tag.Rows, tag.Columns, tag.BitsAllocated,
}

// keywords are the names of the indexed elements.
var keywords = func() []string {
	names := make([]string, len(indexed))
	for i, t := range indexed {
		info, err := tag.Find(t)
		if err != nil {
			panic(err) // a tag of the list that the dictionary lacks: every test finds it
		}
		names[i] = info.Keyword
	}
	return names
}()

// ErrMisplaced is the error for an object that lacks a UID, or has one that is none (PS3.5 9.1), so that nobody can say what
// it belongs to.
var ErrMisplaced = errors.New("object cannot be placed")

// describe reads what the index keeps of an object from its header.
func describe(p *dicom.Prefix) (*Object, error) {
	o := &Object{
		StudyInstanceUID: p.String(tag.StudyInstanceUID), SeriesInstanceUID: p.String(tag.SeriesInstanceUID),
		SOPClassUID: p.String(tag.SOPClassUID), SOPInstanceUID: p.String(tag.SOPInstanceUID),
		TransferSyntaxUID: p.TransferSyntaxUID, Attributes: map[string][]string{},
	}
	for _, u := range []struct{ name, value string }{
		{"StudyInstanceUID (0020,000D)", o.StudyInstanceUID}, {"SOPInstanceUID (0008,0018)", o.SOPInstanceUID},
		{"SOPClassUID (0008,0016)", o.SOPClassUID},
	} {
		switch {
		case u.value == "":
			return nil, fmt.Errorf("%w: %s is missing", ErrMisplaced, u.name)
		case !ValidUID(u.value):
			return nil, fmt.Errorf("%w: %s is no UID", ErrMisplaced, u.name)
		}
	}
	for i, t := range indexed {
		values := p.Strings(t)
		if values == nil {
			for _, n := range p.Ints(t) {
				values = append(values, fmt.Sprint(n))
			}
		}
		if values != nil {
			o.Attributes[keywords[i]] = values
		}
	}
	return o, nil
}

// ValidUID says whether s can be a UID: digits and periods, 64 at most. Components with leading zeros, which PS3.5 9.1 forbids,
// are let pass: devices write them.
func ValidUID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789.") == ""
}

// The sizes of the beginning of a file that is read to learn what it is.
const (
	headBytes    = 4 << 10 // little, so that a slow sender is known by its first packets
	maxHeadBytes = 4 << 20
)

// readHead reads as much of the beginning of a file as it takes to know its header, and no more than maxHeadBytes.
func readHead(r io.Reader) (head []byte, p *dicom.Prefix, err error) {
	lim := dicom.Limits{MaxBytes: maxHeadBytes}
	for size := headBytes; ; size *= 4 {
		n := len(head)
		head = slices.Grow(head, size-n)[:size]
		read, err := io.ReadFull(r, head[n:])
		head = head[:n+read]
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !ended {
			return nil, nil, err
		}
		p, err = dicom.ParsePrefix(head, lim)
		if ended || err == nil && p.Whole || size >= maxHeadBytes {
			return head, p, err
		}
		var refusal *dicom.Error
		if errors.As(err, &refusal) && refusal.Code != dicom.CodeTruncated {
			return nil, nil, err
		}
	}
}

// digester makes the digest of an object from its file, written in pieces.
type digester struct {
	skip int // bytes before the data set
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func newDigester(p *dicom.Prefix) *digester {
	d := &digester{skip: p.DataSet, sum: sha256.New()}
	d.sum.Write(append([]byte(p.TransferSyntaxUID), 0))
	return d
}

func (d *digester) Write(b []byte) (int, error) {
	n := min(d.skip, len(b))
	d.skip -= n
	d.sum.Write(b[n:])
	return len(b), nil
}

func (d *digester) digest() string { return hex.EncodeToString(d.sum.Sum(nil)) }
