"""Verilog blocks for co-simulation, as a machine or a memory lists them in `rtl`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from archsim.workload.layers import Layer

Signals = Mapping[str, int]
"""Ports and what is on them; a signed port may be given as a negative number."""


class RtlModel(Protocol):
    """The registers of a block in plain Python."""

    def step(self, inputs: Signals) -> Signals:
        """Return all output ports within this clock cycle, then pass the clock edge."""


class RtlCase(Protocol):
    """One thing a block is made to do, from reset on; picklable, for the simulator runs in another process.

    `outcomes`: what must leave through the block's result port, in order; `totals`: output ports at the end.
    """

    @property
    def about(self) -> str:
        """What it is, for messages."""

    @property
    def outcomes(self) -> Sequence[Signals]:
        """Results in order; ports that a case leaves out are not compared."""

    @property
    def totals(self) -> Signals:
        """Counters after the last cycle."""

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Yield inputs and the model's outputs, cycle by cycle; the inputs may react to the outputs."""


class ParametersOf(Protocol):
    """Says which DUT parameters the Config of a block's owner means; a layer may need larger memories."""

    def __call__(self, config: Any, layer: Layer | None = None) -> dict[str, int]:
        """Return all parameters of the module by name. Raises: MappingError for a Config the block does not have."""


@dataclass(frozen=True)
class RtlBlock:
    """A Verilog block, `rtl/<name>/<name>.v`, and its pure-Python model, for co-simulation. Nothing here imports
    cocotb.

    `model(parameters)` has the block's registers; `result` names the handshake (valid, ready) of the result port, ready
    None if results are never held up.
    `random_cases(config, seed)` yields cases without end, `cases_from(config, layer, plan, x, stored, tiles, seed)` one
    for each of so many tiles of a real layer, None if the block belongs to no layer; outcomes and totals are worked out
    by the kernels and timing law of the machine or memory that owns the block.
    """

    name: str
    result: tuple[str, str | None]
    parameters: ParametersOf
    model: Callable[[Mapping[str, int]], RtlModel]
    random_cases: Callable[[Any, int], Iterator[RtlCase]]
    cases_from: Callable[..., Iterator[RtlCase]] | None = None
