"""Image kernels in YAML: scalar steps applied at every interior pixel of an image.

```yaml
name: edges
source: where the kernel comes from
input: [321, 481]                        # height and width; a study with images takes theirs
steps:
  - {name: gx, mul: [[0, 1], 0.5]}       # a pixel [row, column] relative to the one at work, and a constant
  - {name: g, mac: [[0, -1], -0.5, gx]}  # pixel x constant + an earlier step
  - {name: sum, add: [g, {minus: [1, 0]}]}
  - {name: size, sqrt: [sum]}            # the last step is the output
```
Operations: `add` and `mul` of two operands, `mac` of three (a x b + c), `sqrt` of one. Pixels are at most `border` (1)
away. The result is a picture: rounded to the nearest whole number, ties to even, and cut to 0..255.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from archsim.errors import StudyError, WorkloadError, did_you_mean
from archsim.workload.assemble import assemble
from archsim.workload.graph import Network
from archsim.workload.layers import Operand, OpStep, OpStream
from archsim.workload.pictures import Array
from archsim.yamlfile import KeyPath, Written, YamlFile, read_yaml, validate

OPERANDS: Mapping[Literal["add", "mul", "mac", "sqrt"], int] = {"add": 2, "mul": 2, "mac": 3, "sqrt": 1}
LAYER = "kernel"


class Step(Written):
    """One step as written: a name, and exactly one operation with its operands."""

    name: str = Field(min_length=1)
    add: list[Any] | None = None
    mul: list[Any] | None = None
    mac: list[Any] | None = None
    sqrt: list[Any] | None = None


class File(Written):
    """The whole file."""

    name: str
    source: str
    input: list[int] = Field(min_length=2, max_length=2)
    border: int = Field(default=1, ge=0)
    steps: list[dict[str, Any]] = Field(min_length=1)


def is_image_kernel(path: Path) -> bool:
    """Tell whether a YAML file is an image kernel; one that cannot be read is none."""
    try:
        data = read_yaml(path).data
    except StudyError:
        return False
    return isinstance(data, dict) and "steps" in data


def load_image_kernel(path: Path) -> Network:
    """Return the network of one OpStream layer `kernel`. Raises: WorkloadError with file, line, rule and value."""
    try:
        source = read_yaml(path)
        written = validate(File, source.data, source)
        names: dict[str, int] = {}
        steps = tuple(_step(raw, names, written.border, source, ("steps", i)) for i, raw in enumerate(written.steps))
        return _network(written, steps)
    except StudyError as error:
        raise WorkloadError(str(error)) from error.__cause__


def _network(written: File, steps: tuple[OpStep, ...]) -> Network:
    H, W = written.input
    layer = OpStream(name=LAYER, inputs=("image",), output="picture", H=H, W=W, steps=steps, border=written.border)
    return assemble(written.name, [layer], {"image": (1, H, W)}, "picture")


def sized_for(network: Network, images: Array) -> Network:
    """Return an image kernel for images (N, H, W) or (N, 1, H, W) as they are.

    Raises: WorkloadError for images with several channels, or smaller than the kernel's border.
    """
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3:
        raise WorkloadError(f"{network.name} takes grey images (N, H, W), got {images.shape}")
    H, W = images.shape[1:]
    layers = [replace(layer, H=H, W=W) for layer in network.layers if isinstance(layer, OpStream)]
    return assemble(network.name, layers, {network.input: (1, H, W)}, network.output)


def _step(raw: Mapping[str, Any], names: dict[str, int], border: int, source: YamlFile, at: KeyPath) -> OpStep:
    """Return one step and note its name."""
    step = validate(Step, raw, source, at)
    given = [op for op in OPERANDS if getattr(step, op) is not None]
    if len(given) != 1:
        raise source.error(at, f"needs exactly one of {', '.join(OPERANDS)}; got {', '.join(given) or 'none'}")
    (op,) = given
    operands = getattr(step, op)
    if len(operands) != OPERANDS[op]:
        raise source.error((*at, op), f"takes {OPERANDS[op]} operands, got {len(operands)}")
    refs = tuple(_operand(one, names, border, source, (*at, op)) for one in operands)
    if step.name in names:
        raise source.error((*at, "name"), f"{step.name!r} is the name of an earlier step")
    names[step.name] = len(names)
    return OpStep(op, refs)


def _operand(one: Any, names: Mapping[str, int], border: int, source: YamlFile, at: KeyPath) -> Operand:
    """Return a reference to a pixel, a constant or an earlier step."""
    if isinstance(one, dict) and list(one) == ["minus"]:
        return ("minus_pixel", *_offset(one["minus"], border, source, at))
    if isinstance(one, list):
        return ("pixel", *_offset(one, border, source, at))
    if isinstance(one, int | float) and not isinstance(one, bool):
        return ("constant", float(one))
    if one not in names:
        hint = did_you_mean(str(one), names) if names else ""
        raise source.error(at, f"must be a pixel [row, column], a number or an earlier step, got {one!r}{hint}")
    return ("step", names[one])


def _offset(one: Any, border: int, source: YamlFile, at: KeyPath) -> tuple[float, float]:
    if not (isinstance(one, list) and len(one) == 2 and all(isinstance(v, int) and abs(v) <= border for v in one)):
        raise source.error(at, f"a pixel is [row, column], each from -{border} to {border}, got {one!r}")
    return (one[0], one[1])
