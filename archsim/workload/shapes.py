"""Shape-only networks in YAML: layer sizes without weights, for timing and energy.

```yaml
name: tiny
source: where the sizes and the totals come from
input: [3, 32, 32]                       # C, H, W of one image
blocks:                                  # optional: groups of layers used more than once
  fire:
    parameters: [s, e]
    layers:
      - {name: squeeze1x1, conv: {M: s, kernel: 1}, relu: true}              # reads the block's input
      - {name: expand1x1, conv: {M: e, kernel: 1}, relu: true}
      - {name: expand3x3, from: squeeze1x1, conv: {M: e, kernel: 3, pad: 1}, relu: true}
      - {name: concat, from: [expand1x1, expand3x3], concat: {}}             # the last layer is the block's output
layers:
  - {name: conv1, conv: {M: 96, kernel: 7, stride: 2}, relu: true}
  - {name: fire2, block: fire, s: 16, e: 64}                                 # layers fire2_squeeze1x1, ...
```
A layer reads the one before it unless `from` names others; inside a block `from: in` is the block's input. Operations:
`conv` {M, kernel, stride 1, pad 0, dilation 1, groups 1}, `depthwise` {kernel, stride 1, pad 0}, `linear` {M},
`pool` {kind: max | average, kernel, stride, pad 0, ceil false}, `global_average_pool` {}, `lrn` {size, alpha, beta,
bias}, `add` {}, `concat` {}, `flatten` {}, `softmax` {}, `subsample` {M, stride} (shortcut without weights: every
stride-th pixel, zero channels added equally before and after). `relu: true` or `clip: [low, high]` follow a conv,
depthwise, linear or add. `kernel` is one number or [R, S], `stride` one or [vertical, horizontal], `pad` one or
[top, left, bottom, right]. `zero_fraction: {ifmap: 0.4, ofmap: 0.7}` states the zeros in a layer's data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from archsim.errors import StudyError, WorkloadError, did_you_mean
from archsim.workload.assemble import Shape, as_map, assemble, flattened_map, layer_shape
from archsim.workload.graph import Network
from archsim.workload.layers import (
    Add,
    Concat,
    Conv,
    Layer,
    Linear,
    Lrn,
    Pads,
    Pair,
    Pool,
    Reshape,
    Softmax,
    Wiring,
)
from archsim.workload.shapes_format import (
    Block,
    ConvEntry,
    Entry,
    File,
    LinearEntry,
    LrnEntry,
    Nothing,
    PoolEntry,
    SubsampleEntry,
    Window,
)
from archsim.yamlfile import KeyPath, YamlFile, read_yaml, validate

BLOCK_INPUT = "in"
SEVERAL_INPUTS = ("add", "concat")
ACTIVATED = ("conv", "depthwise", "linear", "add")


@dataclass
class _Builder:
    """The network so far; `tensors` maps the names layers may use in `from` to tensor names."""

    shapes: dict[str, Shape]
    last: str
    tensors: dict[str, str]
    layers: list[Layer] = field(default_factory=list)
    zero_fractions: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)


def load_shapes(path: Path) -> Network:
    """Return the shape-only Network of a YAML file.

    Raises: WorkloadError with file, line, rule, value got and the nearest or allowed names.
    """
    try:
        return _network(read_yaml(path))
    except StudyError as error:
        raise WorkloadError(str(error)) from error.__cause__


def _network(source: YamlFile) -> Network:
    written = validate(File, source.data, source)
    if len(written.input) not in (1, 3) or min(written.input) < 1:
        raise source.error(("input",), f"must be [C, H, W] or [C], sizes at least 1, got {written.input}")
    shape = tuple(written.input)
    builder = _Builder({"input": shape}, "input", {"input": "input"})
    for index, item in enumerate(written.layers):
        path: KeyPath = ("layers", index)
        if "block" in item:
            _use_block(builder, item, written.blocks, source, path)
        else:
            _add_layer(builder, validate(Entry, item, source, path), source, path, "", builder.tensors)
    return assemble(written.name, builder.layers, {"input": shape}, builder.last, zero_fractions=builder.zero_fractions)


def _use_block(
    builder: _Builder, item: Mapping[str, Any], blocks: Mapping[str, Block], source: YamlFile, path: KeyPath
) -> None:
    """Add the layers of one use of a block; later layers reach its last layer by the name of the use."""
    use, kind = item.get("name"), item["block"]
    if not isinstance(use, str) or not isinstance(kind, str) or kind not in blocks:
        raise source.error(path, f"needs a name and a block, got {use!r} and {kind!r}{did_you_mean(str(kind), blocks)}")
    values = {key: value for key, value in item.items() if key not in ("name", "block", "from")}
    _check_parameters(kind, blocks[kind].parameters, values, source, path)
    with source.errors_at(path):
        entered = _inputs(item.get("from"), builder, builder.tensors)
        if len(entered) != 1:
            raise WorkloadError(f"a block reads one layer, got {len(entered)}")
    builder.last = entered[0]
    inside = {BLOCK_INPUT: entered[0]}
    for index, template in enumerate(blocks[kind].layers):
        at: KeyPath = ("blocks", kind, "layers", index)
        entry = validate(Entry, _fill(template, values), source, at)
        _add_layer(builder, entry, source, at, f"{use}_", inside)
    builder.tensors[use] = builder.last


def _check_parameters(
    kind: str, wanted: Sequence[str], values: Mapping[str, Any], source: YamlFile, path: KeyPath
) -> None:
    for key in values:
        if key not in wanted:
            raise source.error(path, f"block {kind!r} has no parameter {key!r}{did_you_mean(key, wanted)}")
    for key in wanted:
        if key not in values:
            raise source.error(path, f"block {kind!r} needs the parameter {key!r}")


def _fill(template: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block's layer with the parameters put in; names of layers are never parameters."""
    return {key: value if key in ("name", "from") else _filled(value, values) for key, value in template.items()}


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, values) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, values) for part in value]
    return values.get(value, value) if isinstance(value, str) else value


def _add_layer(
    builder: _Builder, entry: Entry, source: YamlFile, path: KeyPath, prefix: str, tensors: dict[str, str]
) -> None:
    """Append one layer called `prefix` + its name; `tensors` are the names its `from` may use."""
    name = prefix + entry.name
    with source.errors_at(path):
        if name in builder.shapes or entry.name in tensors:
            raise WorkloadError(f"name {name!r} given twice")
        try:
            layer = _layer(builder, name, entry, _inputs(entry.inputs, builder, tensors))
            builder.shapes[name] = layer_shape(layer, [builder.shapes[tensor] for tensor in layer.inputs])
        except WorkloadError as error:
            raise WorkloadError(f"layer {name!r}: {error}") from None
    builder.layers.append(layer)
    builder.last = tensors[entry.name] = name
    if entry.zero_fraction:
        builder.zero_fractions[name] = (entry.zero_fraction.ifmap, entry.zero_fraction.ofmap)


def _inputs(written: str | list[str] | None, builder: _Builder, tensors: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tensors a `from` names; without one the layer before."""
    if written is None:
        return (builder.last,)
    names = [written] if isinstance(written, str) else written
    if not names:
        raise WorkloadError("from: must name a layer")
    for name in names:
        if name not in tensors:
            raise WorkloadError(f"from: unknown layer {name!r}{did_you_mean(name, tensors)}")
    return tuple(tensors[name] for name in names)


def _layer(builder: _Builder, name: str, entry: Entry, inputs: tuple[str, ...]) -> Layer:
    operation, values = entry.operation()
    shapes = [builder.shapes[tensor] for tensor in inputs]
    activation = entry.activation()
    if activation.kind != "none" and operation not in ACTIVATED:
        raise WorkloadError(f"relu and clip follow {', '.join(ACTIVATED)} only, not {operation}")
    if operation not in SEVERAL_INPUTS and len(inputs) != 1:
        raise WorkloadError(f"{operation} reads one layer, got {len(inputs)}")
    fields: dict[str, Any] = {"name": name, "inputs": inputs, "output": name}
    if operation in ACTIVATED:
        fields["activation"] = activation
    if operation == "linear":
        fields["map_shape"] = flattened_map(inputs[0], builder.layers, builder.shapes)
    return _LAYERS[operation](values, shapes[0], fields)


def _pair(value: int | list[int], what: str) -> Pair:
    """Return one number for both axes, or [vertical, horizontal]."""
    first, *rest = value if isinstance(value, list) else (value, value)
    if len(rest) != 1:
        raise WorkloadError(f"{what} must be one number or two, got {value}")
    return (first, rest[0])


def _pads(value: int | list[int]) -> Pads:
    sides = value if isinstance(value, list) else [value] * 4
    if len(sides) != 4:
        raise WorkloadError(f"pad must be one number or [top, left, bottom, right], got {value}")
    return (sides[0], sides[1], sides[2], sides[3])


def _conv(values: ConvEntry, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    C, H, W = as_map(shape)
    R, S = _pair(values.kernel, "kernel")
    return Conv(
        C=C, M=values.M, H=H, W=W, R=R, S=S, stride=_stride(values), pad=_pads(values.pad),
        dilation=_pair(values.dilation, "dilation"), groups=values.groups, **fields,
    )  # fmt: skip


def _stride(values: Window) -> Pair:
    stride = _pair(values.stride, "stride")
    if min(stride) < 1:
        raise WorkloadError(f"stride must be at least 1, got {values.stride}")
    return stride


def _depthwise(values: Window, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    C = as_map(shape)[0]
    whole = ConvEntry(M=C, groups=C, kernel=values.kernel, stride=values.stride, pad=values.pad)
    return _conv(whole, shape, fields)


def _linear(values: LinearEntry, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    return Linear(C=shape[0], M=values.M, **fields)


def _pool(values: PoolEntry, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    R, S = _pair(values.kernel, "kernel")
    return Pool(
        kind=values.kind, R=R, S=S, stride=_stride(values), pad=_pads(values.pad), ceil_mode=values.ceil, **fields
    )


def _global_average_pool(values: Nothing, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    _, H, W = as_map(shape)
    return Pool(kind="average", R=H, S=W, stride=(1, 1), **fields)


def _lrn(values: LrnEntry, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    return Lrn(**values.model_dump(), **fields)


def _add(values: Nothing, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    return Add(**fields)


def _concat(values: Nothing, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    return Concat(**fields)


def _flatten(values: Nothing, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    return Reshape(shape=(prod(shape),), **fields)


def _softmax(values: Nothing, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    return Softmax(**fields)


def _subsample(values: SubsampleEntry, shape: Shape, fields: Mapping[str, Any]) -> Layer:
    C = as_map(shape)[0]
    added = values.M - C
    if added < 0:
        raise WorkloadError(f"M must be at least C = {C}, got {values.M}")
    before, after = added // 2, added - added // 2
    return Wiring(source=(*[-1] * before, *range(C), *[-1] * after), stride=(values.stride, values.stride), **fields)


_LAYERS: Mapping[str, Callable[[Any, Shape, Mapping[str, Any]], Layer]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "linear": _linear,
    "pool": _pool,
    "global_average_pool": _global_average_pool,
    "lrn": _lrn,
    "add": _add,
    "concat": _concat,
    "flatten": _flatten,
    "softmax": _softmax,
    "subsample": _subsample,
}
