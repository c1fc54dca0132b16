#include "codec.h"

#ifndef WITH_CHARLS

void load_charls(void) {}
const char *charls_version(void) { return ""; }
void decode_jpegls(const request *r) {
	(void)r;
	refuse(UNSUPPORTED_SYNTAX, "mvmae-codec was built without CharLS");
}

#else

#include <charls/charls.h>
#include <dlfcn.h>
#include <stdlib.h>

static void *library;

// charls calls a function of the library.
#define charls(function, ...) ((__typeof__(&charls_##function))dlsym(library, "charls_" #function))(__VA_ARGS__)

// load_charls is apart from the rest because it opens files. The library is not linked, for it is C++, and that takes half a
// millisecond to load, of which a small JPEG 2000 has no use.
void load_charls(void) { library = dlopen("libcharls.so.2", RTLD_NOW); }

const char *charls_version(void) { return library ? charls(get_version_string) : ""; }

static void check(charls_jpegls_errc code) {
	if (code)
		refuse(MALFORMED, "CharLS: %s", charls(get_error_message, code));
}

// ends says whether the stream has an end; zeros may follow it.
static int ends(const request *r) {
	size_t n = r->size;
	while (n > 0 && r->data[n - 1] == 0)
		n--;
	return n >= 2 && r->data[n - 2] == 0xff && r->data[n - 1] == 0xd9;
}

typedef struct {
	const unsigned char *data;
	size_t plane, width; // bytes
} planes;

static void gather(const void *from, uint32_t sample, size_t first, uint32_t n, size_t step, unsigned char *to) {
	const planes *p = from;
	const unsigned char *in = p->data + sample * p->plane + first * p->width;
	for (uint32_t i = 0; i < n; i++, to += step, in += p->width) {
		to[0] = in[0];
		if (p->width == 2)
			to[1] = in[1];
	}
}

// decode_jpegls decodes ISO 14495-1, lossless and near-lossless. Samples have no sign there: the DICOM header decides.
void decode_jpegls(const request *r) {
	if (!library)
		refuse(UNSUPPORTED_SYNTAX, "CharLS cannot be loaded: %s", dlerror());
	// CharLS 2.4 takes many seconds to see that a stream has no end.
	if (!ends(r))
		refuse(TRUNCATED, "the JPEG-LS stream has no end");
	charls_jpegls_decoder *d = charls(jpegls_decoder_create);
	if (!d)
		refuse(TOO_LARGE, "CharLS: no memory");
	check(charls(jpegls_decoder_set_source_buffer, d, r->data, r->size));
	check(charls(jpegls_decoder_read_header, d));
	charls_frame_info info;
	check(charls(jpegls_decoder_get_frame_info, d, &info));
	image m = {.rows = info.height, .columns = info.width, .samples = info.component_count, .bits = info.bits_per_sample};
	fits(r, &m);
	charls_interleave_mode mode;
	check(charls(jpegls_decoder_get_interleave_mode, d, &mode));
	planes p = {.width = m.bits <= 8 ? 1 : 2};
	p.plane = (size_t)m.rows * m.columns * p.width;
	unsigned char *samples = malloc(p.plane * m.samples);
	if (!samples)
		refuse(TOO_LARGE, "CharLS: no memory");
	check(charls(jpegls_decoder_decode_to_buffer, d, samples, p.plane * m.samples, 0));
	p.data = samples;
	answer(&m);
	if (m.samples > 1 && mode == CHARLS_INTERLEAVE_MODE_NONE)
		planar(&m, gather, &p);
	else
		bytes(samples, p.plane * m.samples);
}

#endif
