"""Makes every transfer syntax from native DICOM files, with other people's encoders, and decodes the results with other
people's decoders.

    peers.py encode NATIVE_DIR OUT_DIR [ARC.ENCODER...]
                                          every *.dcm of NATIVE_DIR in every syntax that takes it, or in these
    peers.py decode DIR                   every *.dcm of DIR by every peer: DIR/NAME.PEER.i32, gray values as int32
    peers.py samples OUT                  the same for pydicom's own test files with pixels: OUT/NUMBER.pydicom.i32
    peers.py time REPEATS FILE...         seconds and processor seconds of each peer for each file, interleaved, as JSON lines
    peers.py versions

encode prints one JSON line a file: file, base, syntax, encoder. decode prints one a peer: file, peer, error or "". samples prints
one a file: path, name, file (NUMBER.dcm), peer, error or "".
"""
import contextlib
import io
import json
import pathlib
import re
import resource
import subprocess
import sys
import time

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import UID

RLE = "1.2.840.10008.1.2.5"
J = "1.2.840.10008.1.2.4."


def tool(*args):
    """A converter of DCMTK or GDCM: options first, then the two files."""
    def run(source, target, _):
        done = subprocess.run([*args, str(source), str(target)], capture_output=True, text=True)
        if done.returncode or not target.exists():
            raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"])
    return run


def pydicom_encoder(syntax, **options):
    def run(_, target, ds):
        ds.compress(UID(syntax), generate_instance_uid=False, **options)
        ds.save_as(target)
    return run


def code_stream(syntax, encode, photometric=None):
    """Frames that imagecodecs encodes, put into the file as they are."""
    def run(_, target, ds):
        array = ds.pixel_array
        frames = array if ds.get("NumberOfFrames", 1) > 1 else [array]
        ds.PixelData = encapsulate([encode(frame) for frame in frames])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.PhotometricInterpretation = photometric or ds.PhotometricInterpretation
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        ds.save_as(target)
    return run


def imagecodec(name, **options):
    def encode(a):
        import imagecodecs
        return bytes(getattr(imagecodecs, name + "_encode")(a, **options))
    return encode


GRAY8 = lambda d: d.SamplesPerPixel == 1 and d.BitsStored == 8 and d.PixelRepresentation == 0
COLOUR = lambda d: d.SamplesPerPixel == 3
GRAY12 = lambda d: d.SamplesPerPixel == 1 and d.BitsStored in (8, 12) and d.PixelRepresentation == 0
GRAY = lambda d: d.SamplesPerPixel == 1
UNSIGNED = lambda d: d.PixelRepresentation == 0
WORD = lambda d: d.PixelRepresentation == 0 and d.BitsStored == d.BitsAllocated
ANY = lambda d: True

LOSSLESS = ("5", "57", "70", "80", "90", "201", "202")  # the arcs that a palette's indices can take

# syntax, encoder, which images, how. The last arc names a syntax.
ENCODERS = [
    (RLE, "dcmcrle", ANY, tool("dcmcrle")),
    (RLE, "pylibjpeg", ANY, pydicom_encoder(RLE, encoding_plugin="pylibjpeg")),
    (RLE, "gdcm", ANY, tool("gdcmconv", "--rle")),
    (J + "50", "dcmcjpeg", lambda d: GRAY8(d) or COLOUR(d), tool("dcmcjpeg", "+eb")),
    (J + "50", "dcmcjpeg-rgb", COLOUR, tool("dcmcjpeg", "+eb", "+cr")),
    (J + "50", "dcmcjpeg-444", COLOUR, tool("dcmcjpeg", "+eb", "+s4")),
    (J + "51", "dcmcjpeg", GRAY12, tool("dcmcjpeg", "+ee")),
    *((J + "57", f"dcmcjpeg-{n}", UNSIGNED, tool("dcmcjpeg", "+el", "+sv", str(n))) for n in range(1, 8)),
    (J + "70", "dcmcjpeg", UNSIGNED, tool("dcmcjpeg", "+e1")),
    (J + "70", "gdcm", ANY, tool("gdcmconv", "--jpeg")),
    (J + "80", "dcmcjpls", ANY, tool("dcmcjpls", "+el")),
    (J + "80", "dcmcjpls-line", COLOUR, tool("dcmcjpls", "+el", "+il")),
    (J + "80", "dcmcjpls-none", COLOUR, tool("dcmcjpls", "+el", "+in")),
    (J + "80", "gdcm", UNSIGNED, tool("gdcmconv", "--jpegls")),
    (J + "81", "dcmcjpls", UNSIGNED, tool("dcmcjpls", "+en", "+md", "2")),
    (J + "90", "gdcm", ANY, tool("gdcmconv", "--j2k")),
    (J + "90", "pylibjpeg", ANY, pydicom_encoder(J + "90", encoding_plugin="pylibjpeg")),
    (J + "90", "jp2", WORD, code_stream(J + "90", imagecodec("jpeg2k", reversible=True, codecformat="jp2", mct=False))),
    (J + "90", "imagecodecs-mct", COLOUR, code_stream(J + "90", imagecodec("jpeg2k", reversible=True, codecformat="j2k", mct=True), "YBR_RCT")),
    (J + "91", "pylibjpeg", UNSIGNED, pydicom_encoder(J + "91", encoding_plugin="pylibjpeg", j2k_cr=[8])),
    (J + "91", "imagecodecs-mct", COLOUR, code_stream(J + "91", imagecodec("jpeg2k", level=60, codecformat="j2k", mct=True), "YBR_ICT")),
    (J + "201", "openjph", WORD, code_stream(J + "201", imagecodec("htj2k", reversible=True))),
    (J + "202", "openjph", WORD, code_stream(J + "202", imagecodec("htj2k", reversible=True, tlm=True))),
    (J + "203", "openjph", WORD, code_stream(J + "203", imagecodec("htj2k", level=0.002))),
]


def encode(native, out, *only):
    for source in sorted(pathlib.Path(native).glob("*.dcm")):
        for syntax, encoder, takes, how in ENCODERS:
            arc = f"{syntax.rpartition('.')[2]}.{encoder}"
            if only and arc not in only:
                continue
            ds = pydicom.dcmread(source)
            if not takes(ds) or ds.PhotometricInterpretation == "PALETTE COLOR" and arc.partition(".")[0] not in LOSSLESS:
                continue
            name = f"{source.stem}.{arc}"
            line = {"file": name + ".dcm", "base": source.stem, "syntax": syntax, "encoder": encoder, "error": ""}
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    how(source, pathlib.Path(out) / line["file"], ds)
            except Exception as e:  # an encoder that does not take this image: the table says so
                line["error"] = f"{e}"[:200] or type(e).__name__
            print(json.dumps(line))


def gray(array, photometric, ds):
    """Frame 0 as gray values, by the rule of package codec."""
    if photometric == "PALETTE COLOR":
        array, photometric = apply_color_lut(array, ds), "RGB"
    a = array.astype(np.int64)
    if photometric == "RGB":
        a = (299 * a[..., 0] + 587 * a[..., 1] + 114 * a[..., 2] + 500) // 1000
    elif a.ndim == 3:
        a = a[..., 0]
    return a.astype("<i4")


def by_pydicom(plugin):
    def run(path):
        ds = pydicom.dcmread(path)
        array, meta = get_decoder(ds.file_meta.TransferSyntaxUID).as_array(
            ds, index=0, raw=True, decoding_plugin=plugin, apply_jls_sign_correction=True)
        return array, meta["photometric_interpretation"], ds
    return run


DCMTK = {"5": ["dcmdrle"], "80": ["dcmdjpls"], "81": ["dcmdjpls"], **{k: ["dcmdjpeg"] for k in ("50", "51", "57", "70")}}


def by_dcmtk(path):
    arc = pydicom.dcmread(path, specific_tags=["Rows"]).file_meta.TransferSyntaxUID.rpartition(".")[2]
    if arc not in DCMTK:
        raise RuntimeError("dcmtk does not decode this syntax")
    native = pathlib.Path(str(path) + ".native")
    tool(*DCMTK[arc])(path, native, None)
    ds = pydicom.dcmread(native)
    native.unlink()
    return ds.pixel_array if ds.get("NumberOfFrames", 1) == 1 else ds.pixel_array[0], ds.PhotometricInterpretation, ds


PEERS = {"pylibjpeg": by_pydicom("pylibjpeg"), "gdcm": by_pydicom("gdcm"), "dcmtk": by_dcmtk}


def decode(folder):
    for path in sorted(pathlib.Path(folder).glob("*.dcm")):
        for peer, how in PEERS.items():
            line = {"file": path.name, "peer": peer, "error": ""}
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    array, photometric, ds = how(path)
                gray(array, photometric, ds).tofile(path.with_suffix(f".{peer}.i32"))
            except Exception as e:
                line["error"] = f"{e}".strip()[:200] or type(e).__name__
            print(json.dumps(line))


def samples(out):
    """pydicom on the files that its own tests are made of: the first frame, a palette as the luma of its colours."""
    root = pathlib.Path(pydicom.__file__).parent / "data" / "test_files"
    for number, path in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        try:
            ds = pydicom.dcmread(path)
            if not ds.get("Rows") or not any(k in ds for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
                continue
        except Exception:  # no DICOM file
            continue
        line = {"path": str(path), "name": str(path.relative_to(root)), "file": f"{number}.dcm", "peer": "pydicom", "error": ""}
        try:
            array, meta = get_decoder(ds.file_meta.TransferSyntaxUID).as_array(ds, index=0, raw=True, apply_jls_sign_correction=True)
            gray(array, meta["photometric_interpretation"], ds).tofile(pathlib.Path(out) / f"{number}.pydicom.i32")
        except Exception as e:
            line["error"] = f"{e}".strip()[:200] or type(e).__name__
        print(json.dumps(line))


def cpu_time():
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + child.ru_utime + child.ru_stime


def times(repeats, paths):
    for i in range(int(repeats) + 1):
        for path in paths:
            for peer, how in PEERS.items():
                start, cpu = time.perf_counter(), cpu_time()
                try:
                    how(path)
                except Exception:
                    continue
                if i > 0:  # the first round warms up
                    print(json.dumps({"file": path, "peer": peer, "seconds": time.perf_counter() - start,
                                      "cpu": cpu_time() - cpu}), flush=True)


def versions():
    import gdcm
    import imagecodecs
    import openjpeg
    first = subprocess.run(["dcmcjpeg", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    print(json.dumps({"pydicom": pydicom.__version__, "gdcm": gdcm.Version.GetVersion(), "pylibjpeg-openjpeg": openjpeg.__version__,
                      "imagecodecs": imagecodecs.__version__, "dcmtk": re.search(r"v([\d.]+)", first)[1]}))


{"encode": encode, "decode": decode, "samples": samples, "versions": versions, "time": lambda n, *paths: times(n, paths)}[sys.argv[1]](*sys.argv[2:])
