"""Everything of a study that does not depend on machines: network, images, calibration, fp32 accuracy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from archsim.errors import WorkloadError
from archsim.threads import map_blocks, thread_limit
from archsim.units import MB
from archsim.workload.calibrate import calibrate, calibration_inputs, channel_means
from archsim.workload.datasets import DataSet, load_data
from archsim.workload.graph import Network, walk
from archsim.workload.image_kernel import sized_for
from archsim.workload.layers import Layer
from archsim.workload.networks import load_network
from archsim.workload.params import Array
from archsim.workload.pictures import as_picture
from archsim.workload.reference import float_compute, input_tensor
from archsim.workload.spec import DataSpec, WorkloadSpec

CALIBRATION_IMAGES = 32
MAX_BLOCK_IMAGES = 64
BYTES_PER_LIVE_WORD = 32
"""Codes, float copies and accumulators of one word that are alive at once, with room to spare."""


@dataclass
class Workbench:
    """A workload, loaded piece by piece when first asked for; `folder` is where its files are looked for first."""

    spec: WorkloadSpec
    folder: Path

    @cached_property
    def as_loaded(self) -> Network:
        """The network of the file; an image kernel has the size its file states."""
        network = load_network(self.spec.network, self.folder, fold_input_norm=self.spec.fold_input_norm)
        if network.shape_only and self.spec.data is not None:
            raise WorkloadError(f"{network.name} is shape-only, it cannot classify images: leave workload.data out")
        return network

    @cached_property
    def network(self) -> Network:
        """The network with N = batch in every layer; an image kernel has the size of the images."""
        network = self.as_loaded
        if network.makes_pictures and self.data is not None:
            network = sized_for(network, self.data.images)
        return network.with_batch(self.spec.batch)

    @cached_property
    def data(self) -> DataSet | None:
        """The images of the study, or None if it is timed from zero fractions or synthetic tensors."""
        need_labels = not self.as_loaded.makes_pictures
        return self._load(self.spec.data, need_labels=need_labels) if self.spec.data else None

    def check_data(self) -> None:
        """Check that images and labels fit the network, before hours of work. Raises: WorkloadError naming both."""
        network = self.network
        if self.data is None:
            return
        input_tensor(network, self.data.images[:1])
        if self.data.labels is not None and not network.makes_pictures:
            _check_labels(self.data.labels, int(np.prod(network.shapes[network.output])))

    def check_calibration(self) -> None:
        """Check that the calibration images are there and fit the network. Raises: WorkloadError naming both shapes."""
        if self.has_calibration:
            input_tensor(self.network, self.calibration_images[:1])

    @cached_property
    def calibration_images(self) -> Array:
        """The images of `calibration`, else the first 32 of `data`."""
        if self.spec.calibration:
            return self._load(self.spec.calibration, need_labels=False).images
        assert self.data is not None
        return self.data.images[:CALIBRATION_IMAGES]

    @cached_property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """(min, max) of every tensor in fp32 over the calibration images."""
        return calibrate(self.network, self.calibration_images)

    @cached_property
    def channel_means(self) -> Mapping[str, Array]:
        """Mean activation of every channel of every tensor in fp32 over the calibration images, float64 (C,)."""
        return channel_means(self.network, self.calibration_images)

    @property
    def has_calibration(self) -> bool:
        """True if there are images to calibrate on."""
        return self.spec.calibration is not None or self.spec.data is not None

    def calibration_inputs(self, names: Collection[str]) -> Mapping[str, Array]:
        """Return what enters the named layers on the calibration images in fp32, (images, ...)."""
        return calibration_inputs(self.network, self.calibration_images, names)

    @property
    def block_images(self) -> int:
        """Images per block: a multiple of the batch; blocks in parallel keep live tensors inside the memory budget."""
        shapes, batch = self.network.shapes, self.spec.batch
        words = max(
            sum(int(np.prod(shapes[name])) for name in (*layer.inputs, layer.output)) for layer in self.network.layers
        )
        fit = self.spec.max_memory_MB * MB // (BYTES_PER_LIVE_WORD * words * thread_limit())
        return max(1, min(fit, MAX_BLOCK_IMAGES) // batch) * batch

    @cached_property
    def fp32_ranks(self) -> Array:
        """Rank of the right label among the fp32 logits of every image (0 = top-1), int64 (images,)."""
        data = self.data
        assert data is not None and data.labels is not None
        step = self.block_images
        blocks = [data.images[first : first + step] for first in range(0, len(data.images), step)]
        return label_ranks(np.concatenate(map_blocks(self._fp32_logits, blocks)), data.labels)

    @cached_property
    def fp32_pictures(self) -> Array:
        """What an image kernel makes of every image exactly, uint8 (images, 1, P, Q)."""
        assert self.data is not None
        step = self.block_images
        blocks = [self.data.images[first : first + step] for first in range(0, len(self.data.images), step)]
        return np.concatenate([as_picture(values) for values in map_blocks(self._fp32_logits, blocks)])

    def _fp32_logits(self, images: Array) -> Array:
        """Return the fp32 outputs of a block of images."""
        return walk(self.network, input_tensor(self.network, images), float_compute(self.network))

    def zero_fractions(self, layer: Layer) -> tuple[float, float]:
        """Return the (ifmap, ofmap) zero fractions: of the study file, else of the network file, else 0."""
        written = self.spec.zero_fractions.get(layer.name)
        if isinstance(written, float | int):
            written_pair: tuple[float | None, float | None] = (float(written), None)
        else:
            written_pair = (written.ifmap, written.ofmap) if written else (None, None)
        stated = self.network.zero_fractions.get(layer.name, (None, None))
        ifmap, ofmap = (a if a is not None else b for a, b in zip(written_pair, stated, strict=True))
        return ifmap or 0.0, ofmap or 0.0

    def _load(self, spec: DataSpec, *, need_labels: bool) -> DataSet:
        return load_data(spec.name, spec.file, spec.split, spec.images, spec.first, self.folder, need_labels)


def label_ranks(logits: Array, labels: Array) -> Array:
    """Return how many classes score above the right one, ties counted against the higher index; int64 (images,).

    What is no number (flipped bits of a float may make one) scores below everything, as the right class last of all.
    """
    scores = logits.reshape(len(logits), -1)
    _check_labels(labels, scores.shape[1])
    right = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)
    lost = np.isnan(right[:, 0])
    tied_before = (scores == right) & (np.arange(scores.shape[1]) < labels[:, None])
    ranks: Array = ((scores > right) | tied_before).sum(axis=1)
    return np.where(lost, scores.shape[1] - 1, ranks)


def _check_labels(labels: Array, classes: int) -> None:
    """Refuse labels beyond the classes of the network."""
    if int(labels.max()) >= classes:
        raise WorkloadError(f"label {int(labels.max())} in the data, but the network has {classes} classes")
