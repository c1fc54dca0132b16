#include "codec.h"

#ifndef WITH_OPENJPEG

const char *openjpeg_version(void) { return ""; }
void decode_jpeg2000(const request *r) {
	(void)r;
	refuse(UNSUPPORTED_SYNTAX, "mvmae-codec was built without OpenJPEG");
}

#else

#include <openjpeg.h>
#include <stdio.h>
#include <string.h>

// One decoder over a code stream in memory. It is never closed: the process ends with it.
typedef struct {
	const request *r;
	size_t at; // of the code stream, what was read
	opj_stream_t *stream;
	opj_codec_t *codec;
	opj_image_t *image;
	char message[200]; // the first error
} decoder;

const char *openjpeg_version(void) { return opj_version(); }

static OPJ_SIZE_T read_bytes(void *buffer, OPJ_SIZE_T n, void *user) {
	decoder *d = user;
	size_t left = d->r->size - d->at;
	if (left == 0)
		return (OPJ_SIZE_T)-1;
	if (n > left)
		n = left;
	memcpy(buffer, d->r->data + d->at, n);
	d->at += n;
	return n;
}

static OPJ_OFF_T skip_bytes(OPJ_OFF_T n, void *user) {
	decoder *d = user;
	if (n < 0 || (OPJ_UINT64)n > d->r->size - d->at)
		return -1;
	d->at += n;
	return n;
}

static OPJ_BOOL seek_byte(OPJ_OFF_T at, void *user) {
	decoder *d = user;
	if (at < 0 || (OPJ_UINT64)at > d->r->size)
		return OPJ_FALSE;
	d->at = at;
	return OPJ_TRUE;
}

// The first message names the cause, later ones its consequences.
static void keep_message(const char *message, void *user) {
	decoder *d = user;
	if (d->message[0] == 0)
		snprintf(d->message, sizeof d->message, "%.*s", (int)strcspn(message, "\n"), message);
}

static int start(decoder *d) {
	// JP2, which PS3.5 A.4.4 forbids and some devices write.
	static const char jp2[] = "\x00\x00\x00\x0cjP  \r\n\x87\n";
	int boxed = d->r->size >= sizeof jp2 && memcmp(d->r->data, jp2, sizeof jp2 - 1) == 0;
	d->codec = opj_create_decompress(boxed ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K);
	d->stream = opj_stream_create(1 << 16, OPJ_TRUE);
	opj_dparameters_t p;
	opj_set_default_decoder_parameters(&p);
	// The components as they are stored: DICOM's own header says what they mean.
	p.flags |= OPJ_DPARAMETERS_IGNORE_PCLR_CMAP_CDEF_FLAG;
	if (!d->codec || !d->stream || !opj_setup_decoder(d->codec, &p))
		refuse(TOO_LARGE, "OpenJPEG: no memory");
	opj_set_error_handler(d->codec, keep_message, d);
	// A radiograph that ends early is no radiograph.
	opj_decoder_set_strict_mode(d->codec, OPJ_TRUE);
	if (d->r->threads > 1)
		opj_codec_set_threads(d->codec, d->r->threads);
	opj_stream_set_user_data(d->stream, d, NULL);
	opj_stream_set_user_data_length(d->stream, d->r->size);
	opj_stream_set_read_function(d->stream, read_bytes);
	opj_stream_set_skip_function(d->stream, skip_bytes);
	opj_stream_set_seek_function(d->stream, seek_byte);
	return opj_read_header(d->stream, d->codec, &d->image);
}

// describe copies what the image says of itself.
static image describe(const decoder *d) {
	const opj_image_comp_t *first = d->image->comps;
	for (OPJ_UINT32 i = 0; i < d->image->numcomps; i++) {
		const opj_image_comp_t *c = &first[i];
		if (c->dx != 1 || c->dy != 1 || c->w != first->w || c->h != first->h || c->prec != first->prec || c->sgnd != first->sgnd)
			refuse(UNSUPPORTED_PIXELS, "the components of the code stream differ in size or depth");
	}
	return (image){.rows = first->h, .columns = first->w, .samples = d->image->numcomps, .bits = first->prec, .sign = first->sgnd};
}

// levels is how many resolution levels every component can do without; it also tells the transform.
static uint32_t levels(const decoder *d, int *irreversible) {
	opj_codestream_info_v2_t *info = opj_get_cstr_info(d->codec);
	if (!info)
		refuse(TOO_LARGE, "OpenJPEG: no memory");
	const opj_tccp_info_t *c = info->m_default_tile_info.tccp_info;
	*irreversible = c[0].qmfbid == 0;
	uint32_t least = c[0].numresolutions - 1;
	for (OPJ_UINT32 i = 1; i < info->nbcomps; i++) {
		if (c[i].numresolutions - 1 < least)
			least = c[i].numresolutions - 1;
		if ((c[i].qmfbid == 0) != *irreversible)
			least = 0;
	}
	// Only from the origin do a reduced image's samples lie where the phase correction expects them.
	return d->image->x0 || d->image->y0 ? 0 : least;
}

// pack's loops of one sample are those a compiler makes wide.
static void pack(const void *planes, uint32_t sample, size_t from, uint32_t n, size_t step, unsigned char *to) {
	const opj_image_comp_t *c = (const opj_image_comp_t *)planes + sample;
	const OPJ_INT32 *restrict in = c->data + from;
	unsigned char *restrict out = to;
	if (c->prec > 8 && step == 2)
		for (uint32_t i = 0; i < n; i++) {
			out[2 * i] = in[i];
			out[2 * i + 1] = in[i] >> 8;
		}
	else
		for (uint32_t i = 0; i < n; i++) {
			out[step * i] = in[i];
			if (c->prec > 8)
				out[step * i + 1] = in[i] >> 8;
		}
}

// attempt decodes and says whether it could.
static int attempt(decoder *d, uint32_t reduce) {
	if (!start(d))
		return 0;
	image m = describe(d);
	fits(d->r, &m);
	uint32_t most = levels(d, &m.irreversible);
	m.reduced = reduce < most ? reduce : most;
	if (m.reduced > 0 && !opj_set_decoded_resolution_factor(d->codec, m.reduced))
		return 0;
	if (!opj_decode(d->codec, d->stream, d->image) || !opj_end_decompress(d->codec, d->stream))
		return 0;
	image after = describe(d);
	if (after.samples != m.samples)
		return 0;
	m.rows = after.rows;
	m.columns = after.columns;
	for (uint32_t i = 0; i < m.samples; i++)
		if (!d->image->comps[i].data)
			return 0;
	answer(&m);
	planar(&m, pack, d->image->comps);
	return 1;
}

// decode_jpeg2000 decodes ISO 15444-1 and 15444-15 (HTJ2K), a code stream or a JP2 file; the colour transforms RCT and ICT
// are undone.
void decode_jpeg2000(const request *r) {
	decoder d = {.r = r};
	if (attempt(&d, r->reduce))
		return;
	decoder whole = {.r = r};
	// A tile may have fewer resolution levels than the main header promised.
	if (r->reduce > 0 && attempt(&whole, 0))
		return;
	refuse(MALFORMED, "OpenJPEG: %s", d.message);
}

#endif
