// One JPEG 2000 decoder over a buffer in memory.
#include <openjpeg.h>
#include <stdlib.h>

typedef struct {
	const unsigned char *data;
	size_t size, at;
	opj_stream_t *stream;
	opj_codec_t *codec;
	opj_image_t *image;
	// After j2k_header, and anew after j2k_decode.
	int rows, columns, samples, bits, sign;
	int uniform; // all components have one size, depth and sign, and no subsampling
	int levels;  // resolution levels that can be left out
	int irreversible; // the 9/7 transform
	char message[200]; // the first error
} j2k;

j2k *j2k_open(const void *data, size_t size, int jp2, int threads);
int j2k_header(j2k *d);
int j2k_decode(j2k *d, int reduce);
unsigned char *j2k_samples(const j2k *d);
