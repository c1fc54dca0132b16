package upper

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/test/peers"
	"github.com/mvmae/mvmae/test/peers/dimse"
)

// Two people who read table 9-10 must have read the same.
func TestTable_IsPynetdicoms(t *testing.T) {
	if err := dimse.Find(); err != nil {
		codecprog.Skip(t, err.Error())
	}
	out, err := dimse.Run(t.Context(), peers.PythonPath(), "-c",
		`import json; from pynetdicom.fsm import TRANSITION_TABLE as t; print(json.dumps({e + " " + s: a for (e, s), a in t.items()}))`)
	if err != nil {
		t.Fatal(err)
	}
	var theirs map[string]string
	if err := json.Unmarshal([]byte(out), &theirs); err != nil {
		t.Fatal(err)
	}
	ours := map[string]string{}
	for e := range table {
		for s, a := range table[e] {
			if a != 0 {
				ours[event(e).String()+" "+State(s).String()] = effects[a].name
			}
		}
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("the table (-pynetdicom +ours)\n%s", diff)
	}
}
