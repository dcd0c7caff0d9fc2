"""A layer on its machine under one setting: what place, prepare and map decided, ready for data and for the clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from archsim.accelerators.base import Accelerator, Activity, Placement, Plan, Stored
from archsim.approx import LayerSetting
from archsim.errors import AccumulatorOverflowError
from archsim.memory.base import Addresses, Memory, Region
from archsim.units import BITS_PER_BYTE
from archsim.workload.layers import Layer
from archsim.workload.params import Array
from archsim.workload.random import rng_for

ACCUMULATOR_BITS = 32


@dataclass(frozen=True, eq=False)
class Seat:
    """One layer, its machine (under the study's name for it), the memory behind it, the run's seed, where data lie."""

    layer: Layer
    machine_name: str
    machine: Accelerator
    memory: Memory
    placement: Placement
    stored: Stored
    plan: Plan
    setting: LayerSetting
    seed: int
    addresses: Addresses

    @property
    def clocked_memory(self) -> Memory:
        """The memory as this layer's levels let it tick."""
        return self.memory.clocked(self.setting, self.placement.chip)

    def execute(self, x: Array, first: int) -> Activity:
        """Run a block of images that starts at image `first`: perturb, execute, perturb the ofmap once.

        With approximate weights the block is run batch by batch, because every batch reads them anew.
        """
        x = self._read_images(x, "ifmap", first)
        step = self.plan.batch if self._level("weights") else len(x)
        parts = [self._execute_part(x[start : start + step], first + start) for start in range(0, len(x), step)]
        activity = parts[0] if len(parts) == 1 else Activity.joined(parts)
        assert activity.y is not None
        return replace(activity, y=self._read_images(activity.y, "ofmap", first))

    def _execute_part(self, x: Array, first: int) -> Activity:
        """Run images that read the same weights."""
        stored = self._read_weights(first // self.plan.batch)
        draws = partial(_draw, self.seed, self.machine_name, self.layer.name, first)
        try:
            return self.machine.execute(self.layer, self.plan, x, stored, self.setting, draws)
        except AccumulatorOverflowError as error:
            raise error.shifted(first) from None

    def _level(self, region: Region) -> int:
        """Return the memory's level for one region; what stays on chip is never perturbed."""
        level = 0 if region in self.placement.chip else self.setting.level(f"{self.memory.kind}_{region}")
        assert isinstance(level, int)
        return level

    def _read_images(self, codes: Array, region: Region, first: int) -> Array:
        """Return feature maps as a reader of the memory sees them, image by image."""
        level = self._level(region)
        if not level:
            return codes
        return np.stack([self._seen(one, region, level, first + i) for i, one in enumerate(codes)])

    def _read_weights(self, batch_index: int) -> Stored:
        """Return the stored form as this batch reads it."""
        level = self._level("weights")
        if not level:
            return self.stored
        return self.stored.perturbed(lambda words: self._seen(words, "weights", level, batch_index))

    def _seen(self, words: Array, region: Region, level: int, index: int) -> Array:
        """Return what a reader sees of a tensor; `index` of the batch, or of the image, which has its place in it.

        A network's last accumulators are not requantised: they are stored as words of 32 bits.
        """
        bits = ACCUMULATOR_BITS if words.dtype == np.int64 else self.stored.params.format.bits
        image = 0 if region == "weights" else index % self.plan.batch
        address = self.addresses.get(region, 0) + image * words.size * bits // BITS_PER_BYTE
        name = self.layer.name
        return self.memory.perturb(words, region, level, name, index, bits=bits, seed=self.seed, address=address)


def _draw(seed: int, machine: str, layer: str, first: int, use: str, image: int) -> np.random.Generator:
    """Return the generator of one use and image of a block that starts at image `first`."""
    return rng_for(seed, machine, layer, use, first + image)
