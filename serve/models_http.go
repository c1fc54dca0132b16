package serve

import (
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/internal/hint"
)

const pathModels = "/v1/models"

// The states of a model file.
const (
	ModelReady  = "ready"  // it is served
	ModelStale  = "stale"  // it cannot be served, or is gone: the model before it is served in its place
	ModelFailed = "failed" // it cannot be served, and nothing is in its place
)

// ModelState is what became of one model file.
type ModelState struct {
	ModelID
	State   string    `json:"state" enum:"ready,stale,failed" doc:"ready: the file is served. stale: it cannot be, and the model before it still is. failed: it cannot be."`
	Default bool      `json:"default" doc:"Whether it answers where no model is named."`
	File    string    `json:"file"`
	Device  string    `json:"device,omitempty"`
	Since   time.Time `json:"since,omitzero" doc:"When it was loaded."`
	Detail  string    `json:"detail,omitempty" doc:"Why the file is not served."`
	Cure    string    `json:"hint,omitempty" doc:"What the operator can do."`
}

// ModelList is the answer of GET /v1/models.
type ModelList struct {
	Models []ModelState `json:"models" doc:"In the order of their files' paths."`
}

// List says what became of every model file.
func (m *Models) List() []ModelState {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []ModelState{}
	standard := m.standard()
	for _, path := range slices.Sorted(maps.Keys(m.slots)) {
		s := m.slots[path]
		state := ModelState{ModelID: s.id(), State: ModelReady, File: filepath.Base(path)}
		if s.failed != nil || s.gone {
			state.State, state.Detail = ModelFailed, "the file was removed"
		}
		if s.failed != nil {
			state.Detail, state.Cure = s.failed.Error(), hint.Of(s.failed)
		}
		if s.now != nil {
			state.Device, state.Since, state.Default = s.now.device, s.now.since, s.now == standard
			if state.State == ModelFailed {
				state.State = ModelStale
			}
		}
		list = append(list, state)
	}
	return list
}

func (s *Server) models(c *gin.Context) {
	s.respond(c, http.StatusOK, ModelList{s.opts.Models.List()})
}
