"""Folding at import: batch normalisation, constant shifts, activations and padding move into the layer before or after.

Batch normalisation is folded in float64: w' = w*g/sqrt(var+eps), b' = (b-mean)*g/sqrt(var+eps)+beta.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from archsim.errors import WorkloadError
from archsim.workload.assemble import non_negative
from archsim.workload.draft import Exact, ExactParams
from archsim.workload.layers import Activation, Add, BatchNorm, Conv, Elementwise, Layer, Linear, Pad, Pads, Pool

Params = dict[str, ExactParams]


def fold(layers: Sequence[Layer], params: Params, output: str) -> tuple[list[Layer], Params]:
    """Return layers and parameters with everything folded that has no other consumer.

    `output` is the network's output tensor; the arguments are left as they are.
    """
    readers = _readers(layers, output)
    kept: list[Layer] = []
    folded = dict(params)
    place: dict[str, int] = {}
    for layer in layers:
        at = place.get(layer.inputs[0]) if len(layer.inputs) == 1 and readers[layer.inputs[0]] == 1 else None
        merged = None if at is None else _merge(kept[at], layer, folded, kept)
        if merged is None or at is None:
            at = len(kept)
            kept.append(layer)
        else:
            kept[at] = merged
        place[kept[at].output] = at
    return kept, {layer.name: folded[layer.name] for layer in kept if layer.name in folded}


def take_input_norm(layers: Sequence[Layer], source: str, output: str) -> BatchNorm | None:
    """Return the normalisation of the network's input if nothing else reads the raw input."""
    first = [layer for layer in layers if source in layer.inputs]
    norm = first[0] if len(first) == 1 else None
    return norm if isinstance(norm, BatchNorm) and norm.output != output else None


def fold_input_norm(layers: Sequence[Layer], params: Params, norm: ExactParams, source: str) -> Params:
    """Return the parameters with the input's normalisation folded into the first convolution, whose input is `source`.

    Raises: WorkloadError where padding (zero after normalisation) or the layer's kind forbids it.
    """
    first = [layer for layer in layers if source in layer.inputs]
    conv = first[0] if len(first) == 1 else None
    if not isinstance(conv, Conv):
        names = ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in first)
        raise WorkloadError(f"fold_input_norm needs one convolution as the only reader of the input, got {names}")
    if any(conv.pad):
        raise WorkloadError(
            f"fold_input_norm is not possible: {conv.name!r} has padding {conv.pad}, which is zero after normalisation"
        )
    assert norm.bias is not None
    return {**params, conv.name: _scale_inputs(params[conv.name], norm.weights, norm.bias, conv.groups)}


def _readers(layers: Sequence[Layer], output: str) -> Counter[str]:
    readers = Counter(tensor for layer in layers for tensor in layer.inputs)
    readers[output] += 1
    return readers


def _merge(before: Layer, layer: Layer, params: Params, kept: Sequence[Layer]) -> Layer | None:
    """Return one layer for `before` followed by `layer`, or None if they stay apart."""
    if isinstance(before, Pad):
        return _merge_pad(before, layer, kept)
    if isinstance(before, BatchNorm) and isinstance(layer, BatchNorm):
        params[before.name] = _in_sequence(params[before.name], params[layer.name])
        return replace(before, output=layer.output)
    if not isinstance(before, Conv | Linear | Add) or before.activation.kind != "none":
        return None
    if isinstance(layer, BatchNorm) and isinstance(before, Conv | Linear):
        params[before.name] = _scale_outputs(params[before.name], params[layer.name])
        return replace(before, output=layer.output)
    if isinstance(layer, Elementwise) and layer.function in ("relu", "clip"):
        return replace(before, output=layer.output, activation=Activation(layer.function, layer.low, layer.high))
    return None


def _merge_pad(before: Pad, layer: Layer, kept: Sequence[Layer]) -> Layer | None:
    """Return the layer with the padding added to its own where that computes the same."""
    if isinstance(layer, Conv):
        height, width = layer.H - before.pad[0] - before.pad[2], layer.W - before.pad[1] - before.pad[3]
        return replace(layer, inputs=before.inputs, H=height, W=width, pad=_sum(before.pad, layer.pad))
    if not isinstance(layer, Pool) or layer.ceil_mode or not _inside(_sum(before.pad, layer.pad), layer):
        return None
    if layer.kind == "max" and before.inputs[0] in non_negative(kept):
        return replace(layer, inputs=before.inputs, pad=_sum(before.pad, layer.pad))
    if layer.kind == "average" and (layer.count_include_pad or not any(layer.pad)):
        return replace(layer, inputs=before.inputs, pad=_sum(before.pad, layer.pad), count_include_pad=True)
    return None


def _sum(first: Pads, second: Pads) -> Pads:
    return (first[0] + second[0], first[1] + second[1], first[2] + second[2], first[3] + second[3])


def _inside(pad: Pads, layer: Pool) -> bool:
    """True if every window still holds at least one value of the map."""
    return max(pad[0], pad[2]) < layer.R and max(pad[1], pad[3]) < layer.S


def _scale_outputs(own: ExactParams, norm: ExactParams) -> ExactParams:
    """Return the parameters followed by scale and shift per output channel; a mere shift is a bias."""
    assert norm.bias is not None
    scale, shift = norm.weights, norm.bias
    bias = shift if own.bias is None else own.bias * scale + shift
    if np.all(scale == 1):
        return replace(own, bias=bias)
    unfolded = own.weights if own.unfolded is None else own.unfolded
    total = scale if own.channel_scale is None else own.channel_scale * scale
    return ExactParams(unfolded * _column(total, unfolded.ndim), bias, unfolded, total)


def _in_sequence(first: ExactParams, second: ExactParams) -> ExactParams:
    """Return scale and shift of two normalisations in one: (x*a + b)*c + d = x*ac + (bc + d)."""
    assert first.bias is not None and second.bias is not None
    return ExactParams(first.weights * second.weights, first.bias * second.weights + second.bias)


def _column(values: Exact, ndim: int) -> Exact:
    return values.reshape(-1, *(1,) * (ndim - 1))


def _scale_inputs(own: ExactParams, scale: Exact, shift: Exact, groups: int) -> ExactParams:
    """Return the parameters of a convolution without padding that reads x where it used to read x*scale + shift."""
    M, per_group = own.weights.shape[:2]
    channels = (np.arange(M) // (M // groups) * per_group)[:, None] + np.arange(per_group)
    factors = scale[channels][:, :, None, None]
    constant = (own.weights.sum(axis=(2, 3)) * shift[channels]).sum(axis=1)
    return replace(
        own,
        weights=own.weights * factors,
        bias=constant if own.bias is None else own.bias + constant,
        unfolded=None if own.unfolded is None else own.unfolded * factors,
    )
