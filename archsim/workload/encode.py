"""Network parameters in a machine's number format (house rules 2, 3 and 7)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archsim.errors import AccumulatorOverflowError
from archsim.workload.formats import AffineInt8, Fixed, NumberFormat, Scale
from archsim.workload.graph import FloatArray, Network
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array, LayerParams
from archsim.workload.synthetic import synthetic_range, synthetic_weights

_INT64_LIMIT = float(1 << 63)


def encode_params(
    network: Network, layer: Layer, scales: Mapping[str, Scale], number_format: NumberFormat
) -> LayerParams:
    """Return the layer's parameters as codes; `scales` maps tensors to scales, empty: those of synthetic tensors.

    Weights take their own scale. Bias: fixed point int64 accumulator codes, int8 the float64 values of its own codes,
    floating formats as encoded. `weights` is None where the network has none.
    Raises: AccumulatorOverflowError if a bias code does not fit 64 bits.
    """
    source = network.params.get(layer.name)
    x_scale, y_scale = (_scale(network, name, scales, number_format) for name in (layer.inputs[0], layer.output))
    weights, bias, w_scale = None, None, Scale()
    if source is not None:
        weights, w_scale = encode_weights(source.weights, number_format)
        bias = None if source.bias is None else _encode_bias(layer.name, source.bias, number_format, x_scale, w_scale)
    return LayerParams(
        number_format,
        x_scale,
        w_scale,
        None if layer.output == network.output else y_scale,
        weights,
        bias,
        x_non_negative=layer.inputs[0] in network.non_negative,
        reads_network_input=layer.inputs[0] == network.input,
        source=source,
    )


def encode_weights(weights: FloatArray, number_format: NumberFormat) -> tuple[Array, Scale]:
    """Return the codes of `weights` and the scale that follows from their own minimum and maximum."""
    scale = number_format.scale_of(float(weights.min()), float(weights.max()))
    return number_format.encode(weights, scale), scale


def synthetic_params(layer: Layer, number_format: NumberFormat, seed: int) -> LayerParams:
    """Return the parameters of a layer that has shapes only: synthetic weights, no bias, scales of synthetic tensors.

    The ifmap is non-negative, as synthetic ifmaps are.
    """
    weights, w_scale = encode_weights(synthetic_weights(layer, seed), number_format)
    y_range = synthetic_range(isinstance(layer, Conv | Linear) and layer.activation.non_negative)
    x_scale, y_scale = (number_format.scale_of(*one) for one in (synthetic_range(True), y_range))
    return LayerParams(number_format, x_scale, w_scale, y_scale, weights, x_non_negative=True)


def _scale(network: Network, tensor: str, scales: Mapping[str, Scale], number_format: NumberFormat) -> Scale:
    if scales:
        return scales[tensor]
    return number_format.scale_of(*synthetic_range(tensor in network.non_negative))


def _encode_bias(name: str, bias: FloatArray, number_format: NumberFormat, x_scale: Scale, w_scale: Scale) -> Array:
    if isinstance(number_format, Fixed):
        return _accumulator_codes(name, bias, x_scale.fraction_bits + w_scale.fraction_bits)
    scale = number_format.scale_of(float(bias.min()), float(bias.max()))
    codes = number_format.encode(bias, scale)
    return number_format.decode(codes, scale) if isinstance(number_format, AffineInt8) else codes


def _accumulator_codes(name: str, bias: FloatArray, fraction_bits: int) -> Array:
    """Return round_half_even(bias * 2^fraction_bits) as int64."""
    codes = np.rint(np.ldexp(bias.astype(np.float64), fraction_bits))
    if np.abs(codes).max() >= _INT64_LIMIT:
        value = f"{float(np.abs(bias).max())!r} with {fraction_bits} fraction bits"
        raise AccumulatorOverflowError(name, f"a bias of {value} leaves a 64-bit accumulator")
    return codes.astype(np.int64)
