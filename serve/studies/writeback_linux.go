package studies

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback asks the kernel to write a part of a file to disk, without waiting for it. It promises nothing: that is
// left to Sync.
func beginWriteback(f *os.File, offset, n int64) {
	unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}
