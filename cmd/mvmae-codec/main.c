// Command mvmae-codec decodes JPEG-LS, JPEG 2000 and HTJ2K frames for the other programs. It alone links CharLS and
// OpenJPEG: C decoders of hostile bytes stay out of a server's address space.
//
// It reads one request of package external from standard input, limits its own memory and time to what the request allows,
// answers on standard output and ends. With the argument "versions" it says which libraries it was built with.
//
// It is C, and not Go with the libraries linked in, because there is one process for each image: that took 3.4 ms of processor
// time to start, this takes 0.8.
#define _GNU_SOURCE // pthread_setattr_default_np
#include "codec.h"
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

// The sizes of the headers, in bytes, and what keeps them apart from anything else.
enum { REQUEST = 36, ANSWER = 52, CODE = 32, TEXT = 400 };
static const char magic[4] = "MVC3";

static noreturn void fail(const char *what) {
	fprintf(stderr, "error: %s: %s\n", what, errno ? strerror(errno) : "no request of this protocol");
	exit(1);
}

void bytes(const void *data, size_t n) {
	for (const char *p = data; n > 0;) {
		ssize_t w = write(1, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			fail("write the answer");
		p += w;
		n -= w;
	}
}

static uint32_t get32(const unsigned char *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }

static void put32(unsigned char *p, uint32_t v) {
	for (int i = 0; i < 4; i++)
		p[i] = v >> 8 * i;
}

static void header(const image *m, const char *code, uint32_t length) {
	unsigned char h[ANSWER] = {0};
	memcpy(h, magic, sizeof magic);
	memcpy(h + 4, code, strlen(code));
	put32(h + 36, m->rows);
	put32(h + 40, m->columns);
	h[44] = m->samples;
	h[45] = m->bits;
	h[46] = m->reduced;
	h[47] = (m->sign ? 1 : 0) | (m->irreversible ? 2 : 0);
	put32(h + 48, length);
	bytes(h, sizeof h);
}

void answer(const image *m) {
	header(m, "", m->rows * m->columns * m->samples * (m->bits <= 8 ? 1 : 2));
}

void planar(const image *m, void (*row)(const void *, uint32_t, size_t, uint32_t, size_t, unsigned char *), const void *planes) {
	unsigned char buffer[1 << 16]; // as much as a pipe takes, and no more than the second cache
	size_t width = m->bits <= 8 ? 1 : 2, pixel = m->samples * width, most = sizeof buffer / pixel, all = (size_t)m->rows * m->columns;
	for (size_t from = 0; from < all; from += most) {
		uint32_t n = all - from < most ? all - from : most;
		for (uint32_t s = 0; s < m->samples; s++)
			row(planes, s, from, n, pixel, buffer + s * width);
		bytes(buffer, n * pixel);
	}
}

noreturn void refuse(const char *code, const char *format, ...) {
	char text[TEXT];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	header(&(image){0}, code, n < TEXT ? n : TEXT - 1);
	bytes(text, n < TEXT ? n : TEXT - 1);
	_exit(0); // without a look at what the library may have left
}

void fits(const request *r, const image *m) {
	if (m->rows != r->rows || m->columns != r->columns || m->samples != r->samples)
		refuse(MALFORMED, "the code stream has %u x %u pixels of %u samples, the header says %u x %u of %u", m->rows, m->columns,
			m->samples, r->rows, r->columns, r->samples);
	if (m->bits > r->bits)
		refuse(UNSUPPORTED_PIXELS, "the code stream has %u bits, the header allocates %u", m->bits, r->bits);
}

static void read_all(void *to, size_t n) {
	for (char *p = to; n > 0;) {
		ssize_t got = read(0, p, n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			fail("read the request");
		p += got;
		n -= got;
	}
}

// limit holds the process to what one image may need, for good: memory, processor time, no more files, no core dump (it
// would hold a patient's image).
static void limit(uint32_t mebibytes, uint32_t seconds) {
	const struct { int resource; rlim_t value; } limits[] = {
#ifdef __linux__
		{RLIMIT_DATA, (rlim_t)mebibytes << 20}, // which counts what may be written to; only Linux counts mappings, too
#endif
		{RLIMIT_CPU, seconds}, {RLIMIT_FSIZE, 0}, {RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 0}, // those open stay open
	};
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		if (setrlimit(limits[i].resource, &(struct rlimit){limits[i].value, limits[i].value}))
			fail("limit the process");
}

int main(int argc, char **argv) {
	if (argc == 2 && strcmp(argv[1], "versions") == 0) {
		load_charls();
		printf("{\"charls\":\"%s\",\"openjpeg\":\"%s\"}\n", charls_version(), openjpeg_version());
		return 0;
	}
	if (argc != 1) {
		fputs("error: mvmae-codec serves the other programs over standard input and output\n"
			"hint: run \"mvmae-codec versions\" to see its libraries\n", stderr);
		return 2;
	}
#ifdef __GLIBC__
	// One heap, in steps that hold huge pages, which the pool asks for: the memory of a new process is new, and each of its pages costs
	// a fault. malloc looks up their size at its first call, which must come before the limits.
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TOP_PAD, 4 << 20);
	mallopt(M_ARENA_MAX, 1);
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 20);
	pthread_setattr_default_np(&small);
#endif
	unsigned char h[REQUEST];
	read_all(h, sizeof h);
	if (memcmp(h, magic, sizeof magic))
		fail("read the request");
	request r = {.rows = get32(h + 8), .columns = get32(h + 12), .samples = h[5], .bits = h[6], .reduce = h[7], .threads = get32(h + 16),
		.size = get32(h + 32)};
	if (h[4] == 'L')
		load_charls();
	limit(get32(h + 20), get32(h + 24));
	struct stat in;
	if (fstat(0, &in) == 0 && S_ISREG(in.st_mode)) { // memory of the pool's: no copy
		char *whole = mmap(NULL, REQUEST + r.size, PROT_READ, MAP_PRIVATE, 0, 0);
		if (whole == MAP_FAILED || (size_t)in.st_size < REQUEST + r.size)
			fail("map the code stream");
		r.data = (unsigned char *)whole + REQUEST;
	} else {
		unsigned char *data = malloc(r.size);
		if (!data)
			fail("read the code stream");
		read_all(data, r.size);
		r.data = data;
	}
	if (r.size == 0)
		refuse(MALFORMED, "the frame is empty");
	switch (h[4]) {
	case 'L':
		decode_jpegls(&r);
		break;
	case 'J':
		decode_jpeg2000(&r);
		break;
	default:
		fail("read the request");
	}
	_exit(0); // the system frees what the libraries hold
}
