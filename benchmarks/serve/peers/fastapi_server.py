"""The study server a team would write in Python: FastAPI and uvicorn, one process.

    MODEL=FILE METADATA_KEY=KEY fastapi_server.py PORT
"""

import sys

import uvicorn
from fastapi import FastAPI, UploadFile
from study import Model

model = Model()
app = FastAPI()


@app.post("/v1/studies:classify")
def classify(file: list[UploadFile]):  # a plain function: FastAPI runs it on a thread of its pool
    return model.classify([upload.file.read() for upload in file])


@app.get("/readyz")
def ready():
    return {}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
