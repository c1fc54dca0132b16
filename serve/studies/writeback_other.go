//go:build !linux

package studies

import "os"

// beginWriteback does nothing: it only ever saves time.
func beginWriteback(*os.File, int64, int64) {}
