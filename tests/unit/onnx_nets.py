"""Small ONNX networks for tests: a builder with seeded, sign-balanced weights, and fp32 outputs by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from archsim.errors import WorkloadError
from archsim.workload.onnx_import import import_onnx

CASES = []
"""Graphs of `onnx_cases.py` as pytest parameters: shape, kinds of layers, options of the builder, build function."""


def case(shape, *kinds, **options):
    """Register a graph; `kinds` are the layer types the import must give, in order."""

    def register(build):
        CASES.append(pytest.param(shape, kinds, options, build, id=build.__name__))
        return build

    return register


def message(path):
    """Return the one line an import that must fail says about `path`."""
    with pytest.raises(WorkloadError) as caught:
        import_onnx(path)
    text = str(caught.value)
    assert "\n" not in text and text.startswith(f"{path.name}: ")
    return text


class Builder:
    """Collects nodes in a chain; `at` is the tensor the next node reads unless it is told otherwise."""

    def __init__(self, shape, batch="N", opset=13, seed=0):
        self.draw = np.random.default_rng(seed)
        self.shape, self.batch, self.opset = shape, batch, opset
        self.nodes, self.constants, self.at, self.count = [], {}, "image", 0
        self.output_shape = None

    def constant(self, values, name=None):
        name = name or f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def random(self, *shape, dtype=np.float32):
        return self.draw.normal(0, 1 / np.sqrt(max(1, np.prod(shape[1:]))), shape).astype(dtype)

    def node(self, op, *inputs, out=None, name=None, domain="", **attributes):
        self.count += 1
        out = out or f"t{self.count}"
        name = f"{op.lower()}_{self.count}" if name is None else name
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=name, domain=domain, **attributes))
        self.at = out
        return out

    def conv(self, C, M, kernel, bias=True, groups=1, at=None, **attributes):
        inputs = [at or self.at, self.constant(self.random(M, C // groups, *kernel))]
        inputs += [self.constant(self.random(M))] if bias else []
        return self.node("Conv", *inputs, group=groups, **attributes)

    def batch_norm(self, C, at=None, **attributes):
        scale = self.draw.uniform(0.5, 2, C) * (-1) ** np.arange(C)  # both signs
        vectors = [scale, self.random(C), self.random(C), self.draw.uniform(0.5, 2, C)]
        return self.node(
            "BatchNormalization", at or self.at, *(self.constant(np.float32(v)) for v in vectors), **attributes
        )

    def model(self):
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [self.batch, *self.shape])],
            [helper.make_tensor_value_info(self.at, TensorProto.FLOAT, self.output_shape)],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()],
        )
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", self.opset)])
        return model if self.output_shape else onnx.shape_inference.infer_shapes(model)

    def save(self, folder: Path, name="net.onnx") -> Path:
        path = folder / name
        onnx.save(self.model(), str(path))
        return path


def onnxruntime_output(path: Path, images: np.ndarray) -> np.ndarray:
    """Return the first output of the file for float32 images (N, C, H, W)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # its optimiser moves a zero Pad into a MaxPool, whose padding is minus infinity: another function of signed maps
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]
