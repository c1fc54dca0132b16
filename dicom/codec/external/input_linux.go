package external

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// input is a file in memory: what the process needs of it is mapped there, and nothing is copied twice.
func (r Request) input(l limits) (*os.File, error) {
	fd, err := unix.MemfdCreate("image", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "image")
	var header bytes.Buffer
	binary.Write(&header, binary.LittleEndian, r.header(l))
	for _, part := range [][]byte{header.Bytes(), r.Data} {
		if _, err := f.Write(part); err != nil {
			f.Close()
			return nil, err
		}
	}
	if _, err := f.Seek(0, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
