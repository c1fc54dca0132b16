"""DICOM bytes to model input in Python: pydicom, NumPy and OpenCV, recipe "mimic", the peer of dicom/cxr.

    peer.py FILE IMAGES OUT.f32
Protocol: see benchmarks/paired/process.go. The input of the first image is left in OUT.f32.
"""

import io
import json
import resource
import sys
import time

import cv2
import numpy as np
import pydicom


def stored(data):
    """The 256x256 u8 picture of a DICOM object."""
    ds = pydicom.dcmread(io.BytesIO(data))
    a = ds.pixel_array
    a = a - a.min()
    a = (a / a.max() * 255).astype(np.uint8)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        a = 255 - a
    return cv2.resize(cv2.equalizeHist(a), (256, 256), interpolation=cv2.INTER_AREA)


def input_of(data, size=224):
    a = stored(data)[16:240, 16:240]
    if size != 224:
        a = cv2.resize(a.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return a.astype(np.float32) / 255


def main(path, images, out):
    cv2.setNumThreads(1)
    with open(path, "rb") as f:
        data = f.read()
    input_of(data).tofile(out)

    def cpu():
        u = resource.getrusage(resource.RUSAGE_SELF)
        return u.ru_utime + u.ru_stime

    print(flush=True)
    for _ in sys.stdin:
        start, used = time.perf_counter(), cpu()
        for _ in range(images):
            input_of(data)
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": cpu() - used, "done": images}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
