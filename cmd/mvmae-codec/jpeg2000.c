//go:build cgo && openjpeg

#include "jpeg2000.h"
#include <string.h>

static OPJ_SIZE_T read_bytes(void *buffer, OPJ_SIZE_T n, void *user) {
	j2k *d = user;
	size_t left = d->size - d->at;
	if (left == 0)
		return (OPJ_SIZE_T)-1;
	if (n > left)
		n = left;
	memcpy(buffer, d->data + d->at, n);
	d->at += n;
	return n;
}

static OPJ_OFF_T skip_bytes(OPJ_OFF_T n, void *user) {
	j2k *d = user;
	if (n < 0 || (OPJ_UINT64)n > d->size - d->at)
		return -1;
	d->at += n;
	return n;
}

static OPJ_BOOL seek_byte(OPJ_OFF_T at, void *user) {
	j2k *d = user;
	if (at < 0 || (OPJ_UINT64)at > d->size)
		return OPJ_FALSE;
	d->at = at;
	return OPJ_TRUE;
}

// The first message names the cause, later ones its consequences.
static void keep_message(const char *message, void *user) {
	j2k *d = user;
	if (d->message[0] == 0)
		strncpy(d->message, message, sizeof d->message - 1);
}

j2k *j2k_open(const void *data, size_t size, int jp2, int threads) {
	j2k *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->data = data;
	d->size = size;
	d->codec = opj_create_decompress(jp2 ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K);
	d->stream = opj_stream_create(1 << 20, OPJ_TRUE);
	opj_dparameters_t p;
	opj_set_default_decoder_parameters(&p);
	// The components as they are stored: DICOM's own header says what they mean.
	p.flags |= OPJ_DPARAMETERS_IGNORE_PCLR_CMAP_CDEF_FLAG;
	if (!d->codec || !d->stream || !opj_setup_decoder(d->codec, &p))
		return NULL;
	opj_set_error_handler(d->codec, keep_message, d);
	// A radiograph that ends early is no radiograph.
	opj_decoder_set_strict_mode(d->codec, OPJ_TRUE);
	if (threads > 1)
		opj_codec_set_threads(d->codec, threads);
	opj_stream_set_user_data(d->stream, d, NULL);
	opj_stream_set_user_data_length(d->stream, size);
	opj_stream_set_read_function(d->stream, read_bytes);
	opj_stream_set_skip_function(d->stream, skip_bytes);
	opj_stream_set_seek_function(d->stream, seek_byte);
	return d;
}

// describe copies what the image says of itself.
static void describe(j2k *d) {
	const opj_image_t *m = d->image;
	d->samples = m->numcomps;
	d->uniform = m->numcomps > 0;
	for (OPJ_UINT32 i = 0; i < m->numcomps; i++) {
		const opj_image_comp_t *c = &m->comps[i], *first = &m->comps[0];
		if (c->dx != 1 || c->dy != 1 || c->w != first->w || c->h != first->h || c->prec != first->prec || c->sgnd != first->sgnd)
			d->uniform = 0;
	}
	if (!d->uniform)
		return;
	d->columns = m->comps[0].w;
	d->rows = m->comps[0].h;
	d->bits = m->comps[0].prec;
	d->sign = m->comps[0].sgnd;
}

int j2k_header(j2k *d) {
	if (!opj_read_header(d->stream, d->codec, &d->image))
		return 0;
	describe(d);
	opj_codestream_info_v2_t *info = opj_get_cstr_info(d->codec);
	if (!info)
		return 0;
	d->levels = 32;
	d->irreversible = info->m_default_tile_info.tccp_info[0].qmfbid == 0;
	for (OPJ_UINT32 i = 0; i < info->nbcomps; i++) {
		const opj_tccp_info_t *c = &info->m_default_tile_info.tccp_info[i];
		int levels = (int)c->numresolutions - 1;
		if (levels < d->levels)
			d->levels = levels;
		if ((c->qmfbid == 0) != d->irreversible)
			d->levels = 0;
	}
	// Only from the origin do a reduced image's samples lie where the phase correction expects them.
	if (d->levels < 0 || d->image->x0 != 0 || d->image->y0 != 0)
		d->levels = 0;
	opj_destroy_cstr_info(&info);
	return 1;
}

int j2k_decode(j2k *d, int reduce) {
	if (reduce > 0 && !opj_set_decoded_resolution_factor(d->codec, reduce))
		return 0;
	int samples = d->samples;
	if (!opj_decode(d->codec, d->stream, d->image) || !opj_end_decompress(d->codec, d->stream))
		return 0;
	describe(d);
	if (!d->uniform || d->samples != samples)
		return 0;
	for (int i = 0; i < samples; i++)
		if (!d->image->comps[i].data)
			return 0;
	return 1;
}

// j2k_samples returns rows*columns*samples values by pixel: bytes up to 8 bits, else little-endian words. They are packed
// where the values of the first component lie, which are four bytes each, if it is the only one; else apart.
unsigned char *j2k_samples(const j2k *d) {
	size_t n = (size_t)d->rows * d->columns, width = d->bits <= 8 ? 1 : 2, step = d->samples * width;
	unsigned char *out = (unsigned char *)d->image->comps[0].data;
	if (d->samples > 1)
		out = malloc(n * step);
	for (int s = 0; out && s < d->samples; s++) {
		const OPJ_INT32 *in = d->image->comps[s].data;
		unsigned char *to = out + s * width;
		for (size_t i = 0; i < n; i++, to += step) {
			OPJ_INT32 v = in[i];
			to[0] = (unsigned char)v;
			if (width == 2)
				to[1] = (unsigned char)(v >> 8);
		}
	}
	return out;
}
