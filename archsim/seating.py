"""Which layer sits on which machine under one assignment, and how: placed, prepared and mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from threading import Lock
from typing import Any

from archsim.accelerators.addresses import addresses_of
from archsim.accelerators.base import Placement, Sample
from archsim.accelerators.seat import Seat
from archsim.accelerators.vector_unit import vector_prices
from archsim.approx import LayerSetting
from archsim.config import Study
from archsim.energy import PriceTable
from archsim.threads import Recent
from archsim.workload.bench import Workbench
from archsim.workload.calibrate import tensor_scales
from archsim.workload.encode import encode_params, synthetic_params
from archsim.workload.formats import NumberFormat, Scale
from archsim.workload.layers import Layer
from archsim.workload.params import LayerParams

VECTOR_UNIT = "vector_unit"
RECENT_SETTINGS = 4


class Seating:
    """The machines of a study, the layers that sit on them, and the memory behind them."""

    def __init__(self, bench: Workbench, study: Study, assign: Mapping[str, str]) -> None:
        self.bench, self.study, self.network = bench, study, bench.network
        self.machines = {name: spec.build(study.folder) for name, spec in study.machines.items()}
        self.memory = study.memory.build()
        self.where = {layer.name: self._machine_of(layer, assign) for layer in self.network.layers}
        self.placements = self._place()
        on_machines = {
            layer.name: (self.machines[self.where[layer.name]], self.format_of(layer)) for layer in self.machine_layers
        }
        self.addresses = addresses_of(self.network, on_machines, self.memory.capacity_bytes)
        self._check_prices()
        self._scales: dict[NumberFormat, Mapping[str, Scale]] = {}
        self._calibrations: dict[str, Any] = {}
        self._calibrating = Lock()
        self._seats: Recent[tuple[str, str], Seat] = Recent(RECENT_SETTINGS * len(self.network.layers))

    @cached_property
    def machine_layers(self) -> tuple[Layer, ...]:
        """Layers that run on a machine, not on the vector unit, in the order of the network."""
        return tuple(layer for layer in self.network.layers if self.where[layer.name] != VECTOR_UNIT)

    def _machine_of(self, layer: Layer, assign: Mapping[str, str]) -> str:
        """Return the machine a layer runs on; what no machine accepts runs on the vector unit."""
        name = assign.get(layer.name, assign["default"])
        if isinstance(layer, self.machines[name].accepts):
            return name
        takers = [other for other, machine in self.machines.items() if isinstance(layer, machine.accepts)]
        if layer.name not in assign and not takers and not layer.macs_dense:
            return VECTOR_UNIT
        hint = f"; assign it to one of: {', '.join(takers)}" if takers else ""
        message = f"accelerator {name!r} does not run {type(layer).__name__} (layer {layer.name!r}){hint}"
        raise self.study.error(("platform", "assign"), message)

    def _check_prices(self) -> None:
        """Look all prices up before anything runs, so that a missing one costs no time."""
        for name, machine in self.machines.items():
            with self.study.source.errors_at(("platform", "accelerators", name, "prices")):
                machine.prices  # noqa: B018 - loading checks
        with self.study.source.errors_at(("platform", "memory")):
            self.memory.prices  # noqa: B018
        with self.study.source.errors_at(("platform", "vector_unit")):
            self.vector_prices  # noqa: B018

    @cached_property
    def vector_prices(self) -> PriceTable:
        """Prices of the platform's vector unit."""
        return vector_prices(self.study.vector_unit, self.study.folder)

    def _place(self) -> dict[str, Placement]:
        """Let each machine place its runs of consecutive layers."""
        runs: dict[str, list[list[Layer]]] = {name: [] for name in self.machines}
        for name, run in groupby(self.machine_layers, key=lambda layer: self.where[layer.name]):
            runs[name].append(list(run))
        placed = (self.machines[name].place_all(mine) for name, mine in runs.items())
        return {name: placement for machine in placed for name, placement in machine.items()}

    def scales(self, number_format: NumberFormat) -> Mapping[str, Scale]:
        """Return the scale of every tensor in `number_format`, ties solved."""
        if number_format not in self._scales:
            self._scales[number_format] = tensor_scales(self.network, self.bench.ranges, number_format)
        return self._scales[number_format]

    def format_of(self, layer: Layer) -> NumberFormat:
        """Return the number format of a layer on its machine."""
        return self.study.machines[self.where[layer.name]].format

    def seat(self, layer: Layer, setting: LayerSetting) -> Seat:
        """Return the layer prepared and mapped; done once per (layer, setting)."""
        key = (layer.name, repr(setting))
        known = self._seats.get(key)
        return self._seats.keep(key, known or self._new_seat(layer, setting))

    def _new_seat(self, layer: Layer, setting: LayerSetting) -> Seat:
        """Prepare and map a layer."""
        machine = self.machines[self.where[layer.name]]
        placement = self.placements[layer.name]
        params = self._params(layer)
        if machine.answers("calibrate") and not setting.exact and self.bench.has_calibration:
            params = replace(params, calibration=self._calibration(self.where[layer.name]))
        stored = machine.prepare(layer, params, setting)
        plan = machine.map(layer, stored, placement)
        name, seed = self.where[layer.name], self.study.seed
        addresses = self.addresses[layer.name]
        return Seat(layer, name, machine, self.memory, placement, stored, plan, setting, seed, addresses)

    def _params(self, layer: Layer) -> LayerParams:
        """Return the layer's parameters in its machine's format; a shape-only network has none, or synthetic ones."""
        number_format = self.format_of(layer)
        if self.network.shape_only and not self.machines[self.where[layer.name]].can_expect:
            return synthetic_params(layer, number_format, self.study.seed)
        if self.bench.data is None:
            return encode_params(self.network, layer, {}, number_format)
        params = encode_params(self.network, layer, self.scales(number_format), number_format)
        if self.machines[self.where[layer.name]].reads_channel_means:
            params = replace(params, x_mean=self.bench.channel_means[layer.inputs[0]])
        return params

    def _calibration(self, name: str) -> Any:
        """Return what a machine made of the calibration images; done once."""
        with self._calibrating:
            if name not in self._calibrations:
                layers = [layer for layer in self.network.layers if self.where[layer.name] == name]
                inputs = self.bench.calibration_inputs([layer.name for layer in layers])
                params = {layer.name: self._params(layer) for layer in layers}
                samples = [
                    Sample(layer, one, one.format.encode(inputs[layer.name], one.x_scale))
                    for layer in layers
                    for one in (params[layer.name],)
                ]
                self._calibrations[name] = self.machines[name].calibrate(samples)
            return self._calibrations[name]
