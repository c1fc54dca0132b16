"""The study server a team would write in Python: FastAPI, uvicorn, pydicom, OpenCV, onnxruntime. One batched run a study.

    server.py MODEL.onnx METADATA-KEY        writes its URL to standard output when it is ready
"""

import json
import pathlib
import socket
import sys

import cv2
import numpy as np
import onnxruntime as ort
import pydicom
import uvicorn
from fastapi import FastAPI, UploadFile

sys.path.append(str(pathlib.Path(__file__).parent.parent / "preprocess"))
from peer import input_of  # noqa: E402  (benchmarks/preprocess/peer.py)

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
labels = json.loads(session.get_modelmeta().custom_metadata_map[sys.argv[2]])["labels"]
size = session.get_inputs()[0].shape[-1]
cv2.setNumThreads(1)
app = FastAPI()


@app.post("/v1/studies:classify")
def classify(file: list[UploadFile]):  # a plain function: FastAPI runs it on a thread of its pool
    images, views = [], []
    for upload in file:
        data = upload.file.read()
        images.append(input_of(data, size))
        header = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data), stop_before_pixels=True)
        views.append({"PA": 0, "AP": 0, "LL": 1, "LATERAL": 1}.get(header.get("ViewPosition"), 2))
    probability, = session.run(["probability"], {"image": np.stack(images)[:, None], "view": np.array(views, np.int64)})
    return {"probabilities": dict(zip(labels, probability.mean(0).tolist()))}


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
config = uvicorn.Config(app, log_level="warning")
server = uvicorn.Server(config)
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
server.run(sockets=[listener])
