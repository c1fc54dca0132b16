"""Quantises a model file as onnxruntime.quantization does: peer.py MODEL DYNAMIC_OUT STATIC_OUT."""
import sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

model, dynamic, static = sys.argv[1:]
quantize_dynamic(model, dynamic, per_channel=True, weight_type=QuantType.QInt8)


class Noise(CalibrationDataReader):
    """Eight images of noise: enough for the speed, which does not depend on the ranges."""

    def __init__(self):
        random = np.random.default_rng(1)
        self.left = iter([{"image": random.random((1, 1, 224, 224), dtype=np.float32), "view": np.array([0])} for _ in range(8)])

    def get_next(self):
        return next(self.left, None)


quantize_static(model, static, Noise(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])
