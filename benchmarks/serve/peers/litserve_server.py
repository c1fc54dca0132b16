"""The same in LitServe, one worker.

    MODEL=FILE METADATA_KEY=KEY litserve_server.py PORT
"""

import sys

import litserve
from starlette.formparsers import MultiPartParser
from study import Model

MultiPartParser.spool_max_size = 1 << 30  # a request is handed to the worker in memory: a file cannot be


class Study(litserve.LitAPI):
    def setup(self, device):
        self.model = Model()

    def decode_request(self, request):
        return [upload.file.read() for upload in request.getlist("file")]

    def predict(self, files):
        return self.model.classify(files)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Study(api_path="/v1/studies:classify"), accelerator="cpu", workers_per_device=1, timeout=300, healthcheck_path="/readyz")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
