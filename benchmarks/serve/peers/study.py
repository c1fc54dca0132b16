"""What every peer does with a study: pydicom, OpenCV and one batched run of onnxruntime on all cores."""

import io
import json
import os
import pathlib
import sys

import cv2
import numpy as np
import onnxruntime
import pydicom

sys.path.append(str(pathlib.Path(__file__).parent.parent.parent / "preprocess"))
from peer import input_of  # noqa: E402  (benchmarks/preprocess/peer.py)

VIEWS = {"PA": 0, "AP": 0, "LL": 1, "LATERAL": 1}


class Model:
    def __init__(self):
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
        self.labels = json.loads(self.session.get_modelmeta().custom_metadata_map[os.environ["METADATA_KEY"]])["labels"]
        self.size = self.session.get_inputs()[0].shape[-1]
        cv2.setNumThreads(1)

    def classify(self, files):
        images, views = [], []
        for data in files:
            images.append(input_of(data, self.size))
            header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            views.append(VIEWS.get(header.get("ViewPosition"), 2))
        probability, = self.session.run(["probability"], {"image": np.stack(images)[:, None], "view": np.array(views, np.int64)})
        return {"probabilities": dict(zip(self.labels, probability.mean(0).tolist()))}
