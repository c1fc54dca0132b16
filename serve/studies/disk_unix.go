//go:build unix

package studies

import "golang.org/x/sys/unix"

// diskSpace returns the size of the disk that dir is on and what is free of it for this user.
func diskSpace(dir string) (total, free uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	// What is kept back for root counts as used by nobody.
	used := uint64(st.Blocks) - uint64(st.Bfree)
	free = uint64(st.Bavail) * uint64(st.Bsize)
	return used*uint64(st.Bsize) + free, free, nil
}
