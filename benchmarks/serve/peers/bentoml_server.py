"""The same in BentoML, one worker.

    MODEL=FILE METADATA_KEY=KEY bentoml serve bentoml_server:Study --port PORT
"""

from pathlib import Path

import bentoml
from study import Model


@bentoml.service(workers=1, traffic={"timeout": 300}, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Study:
    def __init__(self):
        self.model = Model()

    @bentoml.api(route="/v1/studies:classify")
    def classify(self, file: list[Path]) -> dict:
        return self.model.classify([path.read_bytes() for path in file])
