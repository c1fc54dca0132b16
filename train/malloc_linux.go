package train

/*
#include <malloc.h>

// Only glibc has these settings; other C libraries keep their own ways.
static void keep_memory(void) {
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, -1);
#endif
}
*/
import "C"

// keepMemory tells the C library to keep what XLA frees. By default a step's buffers, gigabytes for preset base, go back to
// the system after every step, and the next step waits for the kernel to clear them anew, page by page: up to a third of its
// processor time. One arena, for a thread's own could not hold large buffers without mmap.
func keepMemory() { C.keep_memory() }
