"""From code vectors to operands, and the ofmap: bfloat16 products, float32 sums in the order of the array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from archsim.accelerators.base import Stored
from archsim.accelerators.bsg.codes import Codes
from archsim.accelerators.bsg.config import BsgConfig
from archsim.accelerators.bsg.generator import Shape, layer_weights, slice_count
from archsim.errors import MappingError
from archsim.workload.formats import Bfloat16, Scale
from archsim.workload.layers import Conv, Layer
from archsim.workload.nodes import activate
from archsim.workload.params import Array, LayerParams
from archsim.workload.reference import reference

BF16 = Bfloat16()


@dataclass(frozen=True, eq=False)
class Generated:
    """Code vectors of a layer uint16 (slices, n_c / 16), the weights they make as bfloat16 (M, C/groups, R, S), and the
    scale of every filter, bfloat16 (M,), which the array applies to its sums.
    """

    codes: Codes
    words: Array
    operands: Array
    channel_scale: Array | None


@dataclass(frozen=True, eq=False)
class BsgStored(Stored):
    """`extra` holds a generated layer's code vectors; memory errors hit these, and the weights follow."""

    def perturbed(self, read: Callable[[Array], Array]) -> Stored:
        """Return what comes of the code vectors, or of loaded weights, as a memory with errors gives them."""
        if not isinstance(self.extra, Generated):
            return super().perturbed(read)
        own = self.extra
        words = read(own.words)
        shape = own.operands.shape
        return replace(self, extra=replace(own, words=words, operands=_operands(own.codes, words, shape)))


def prepare_generated(config: BsgConfig, layer: Conv, params: LayerParams, codes: Codes) -> BsgStored:
    """Make a layer's weights from its code vectors. Raises: MappingError where the network's weights differ."""
    codes.check(config)
    shape = (layer.M, layer.C // layer.groups, layer.R, layer.S)
    words, slices = codes.layers[layer.name], slice_count(shape, codes.slice_shape)
    if len(words) != slices:
        raise MappingError(f"{codes.file}: layer {layer.name!r} has {slices} slices, its code vectors are {len(words)}")
    source = params.source
    if source is None:
        return BsgStored(params)
    given = source.weights if source.unfolded is None else source.unfolded
    made = codes.weights(layer.name, shape)
    wrong = np.flatnonzero(given != made)
    if len(wrong):
        at = int(wrong[0])
        raise MappingError(
            f"layer {layer.name!r}: {len(wrong)} of {made.size} weights differ from those that {codes.file} generates; "
            f"weight {at} is {given.flat[at]:g}, generated {made.flat[at]}"
        )
    scale = None if source.channel_scale is None else BF16.encode(source.channel_scale, Scale())
    return BsgStored(params, Generated(codes, words, _operands(codes, words, made.shape), scale))


def _operands(codes: Codes, words: Array, shape: tuple[int, ...]) -> Array:
    """Return the weights of code vectors as operands of the MAC units."""
    whole: Shape = (shape[0], shape[1], shape[2], shape[3])
    made = layer_weights(codes.base, words, whole, codes.slice_shape, codes.generator)
    return BF16.encode(made.astype(np.float32), Scale())


def compute(layer: Layer, x: Array, stored: Stored) -> Array:
    """Return the ofmap of x (N, C, H, W) or (N, C): bfloat16, or float32 sums if it is the network's output.

    Loaded weights: float32 sums in the order of the dense reference.
    """
    if not isinstance(stored.extra, Generated):
        return reference(layer, x, stored.params).y
    assert isinstance(layer, Conv)
    own, params = stored.extra, stored.params
    values = array_sums(layer, x, own.operands, own.codes.slice_shape)
    if own.channel_scale is not None:
        values *= own.channel_scale[:, None, None]
    if params.bias is not None:
        values += params.bias.astype(np.float32)[:, None, None]
    values = activate(values, layer.activation)
    return values if params.y_scale is None else params.format.encode(values, params.y_scale)


def array_sums(layer: Conv, x: Array, weights: Array, slice_shape: Shape) -> Array:
    """Return float32 sums (N, M, P, Q): slices along the channels, kernel rows, columns, channels of a slice."""
    from archsim.accelerators.bsg.kernel import convolve

    top, left, bottom, right = layer.pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    sums = np.zeros((len(x), layer.M, layer.P, layer.Q), np.float32)
    stride, dilation = np.array(layer.stride), np.array(layer.dilation)
    for image in range(len(x)):  # one image per call: calls stay short enough to be interrupted
        one = slice(image, image + 1)
        convolve(padded[one], weights, stride, dilation, layer.groups, np.array(slice_shape), sums[one])
    return sums
