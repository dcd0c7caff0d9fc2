"""Layers as matrix products, and which of them keep their weights in the banks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archsim.accelerators.base import Placement
from archsim.accelerators.promise.addresses import windows_of
from archsim.accelerators.promise.config import VECTOR_LENGTH, PromiseConfig
from archsim.accelerators.promise.schedule import Product, PromisePlan, banks_of, ceil_div, chunks_of
from archsim.errors import MappingError
from archsim.workload.layers import Conv, Layer, Linear


@dataclass(frozen=True)
class PromisePlacement(Placement):
    """`banks`: those a layer may use, all but the ones in which other layers keep their weights."""

    banks: int = 0


def product_of(layer: Layer) -> tuple[Product, int]:
    """Return the product of one group (m = N*P*Q, k = C/groups*R*S, n = M/groups; N, C, M of a Linear), and groups.

    Raises: MappingError for any other layer.
    """
    if isinstance(layer, Linear):
        return Product(layer.N, layer.C, layer.M), 1
    if not isinstance(layer, Conv):
        raise MappingError(f"layer {layer.name!r}: the banks hold 2 kinds, Conv and Linear, got {type(layer).__name__}")
    k = layer.C // layer.groups * layer.R * layer.S
    return Product(layer.N * layer.P * layer.Q, k, layer.M // layer.groups), layer.groups


def place_layers(config: PromiseConfig, layers: Sequence[Layer]) -> dict[str, Placement]:
    """Let weights stay in the banks in network order, as long as the widest layer that does not still fits beside them.

    Only layers whose weights lie in the banks can stay: with m > n it is the ifmap. Every layer computes in the banks
    that no other layer keeps.
    """
    kept: dict[str, int] = {}
    if config.residency == "resident":
        for layer in layers:
            product, groups = product_of(layer)
            needed = groups * banks_of(product)
            rest = [one for one in layers if one.name not in kept and one is not layer]
            free = config.banks - sum(kept.values()) - needed
            if not product.swapped and free >= max((_least_banks(config, one) for one in rest), default=0):
                kept[layer.name] = needed
    held = sum(kept.values())
    return {
        layer.name: PromisePlacement(
            frozenset({"weights"} if layer.name in kept else ()), None, config.banks - held + kept.get(layer.name, 0)
        )
        for layer in layers
    }


def _least_banks(config: PromiseConfig, layer: Layer) -> int:
    """Return the banks of one column tile, or of a chunk if its sums are split: into no more than on all banks."""
    bpc = ceil_div(product_of(layer)[0].k, VECTOR_LENGTH)
    return ceil_div(bpc, ceil_div(bpc, config.banks))


def map_layer(config: PromiseConfig, layer: Layer, placement: Placement) -> PromisePlan:
    """Return the plan of one batch; banks that keep the weights of other groups hold nothing else.

    Raises: MappingError.
    """
    product, groups = product_of(layer)
    banks = placement.banks if isinstance(placement, PromisePlacement) else config.banks
    resident, one = "weights" in placement.chip, product.oriented
    if resident:
        banks -= (groups - 1) * banks_of(product)
    return PromisePlan(
        batch=layer.N,
        groups=groups,
        m=one.m,
        k=one.k,
        n=one.n,
        swapped=product.swapped,
        banks=banks,
        resident=resident,
        patch=config.patch if product.swapped and isinstance(layer, Conv) else 1,
        chunks=chunks_of(product, banks),
        windows=windows_of(layer) if isinstance(layer, Conv) else None,
    )
