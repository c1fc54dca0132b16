// What the decoders of mvmae-codec are given and what they give back. The wire is described in dicom/codec/external/wire.go.
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

typedef struct {
	uint32_t rows, columns, samples, bits; // as the DICOM header says: the code stream is held to it
	uint32_t reduce;                       // resolution levels that may be left out
	uint32_t threads;
	size_t size;
	const unsigned char *data; // the code stream
} request;

typedef struct {
	uint32_t rows, columns, samples, bits;
	uint32_t reduced; // resolution levels left out
	int sign;
	int irreversible; // by the 9/7 transform
} image;

// fits refuses a code stream that says of its size what the header does not.
void fits(const request *r, const image *m);

// answer sends what goes before the samples. They follow by pixel, a byte each up to 8 bits, else a little-endian word:
// bytes sends such as they are, planar gathers them from one plane per sample.
void answer(const image *m);
void bytes(const void *data, size_t n);
void planar(const image *m, void (*row)(const void *planes, uint32_t sample, size_t from, uint32_t n, size_t step, unsigned char *to),
	const void *planes);

// refuse sends a refusal, by a code of package dicom, and ends the process.
noreturn void refuse(const char *code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define MALFORMED "malformed"
#define TRUNCATED "truncated"
#define TOO_LARGE "too_large"
#define UNSUPPORTED_PIXELS "unsupported_pixels"
#define UNSUPPORTED_SYNTAX "unsupported_transfer_syntax"

// Each decoder answers or refuses. The version is "" where there is no such library. CharLS is to be loaded first.
void load_charls(void);
void decode_jpeg2000(const request *r);
void decode_jpegls(const request *r);
const char *openjpeg_version(void);
const char *charls_version(void);
