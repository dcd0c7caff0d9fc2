"""Filters and unit as blocks for co-simulation, `rtl/bloom_filter` and `rtl/bloom_fu`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.accelerators.base import RtlBlock, RtlCase, RtlModel
from archsim.workload.layers import Layer


def _made() -> Any:
    import archsim.accelerators.bloom.rtl_cases as made

    return made


def _model() -> Any:
    import archsim.accelerators.bloom.rtl_model as model

    return model


def filter_parameters(config: Any, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_filter`. Raises: MappingError."""
    parameters: dict[str, int] = _model().filter_parameters(config, layer)
    return parameters


def fu_parameters(config: Any, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_fu`. Raises: MappingError."""
    parameters: dict[str, int] = _model().fu_parameters(config, layer)
    return parameters


def filter_model(parameters: Any) -> RtlModel:
    """Return the registers of `bloom_filter`."""
    model: RtlModel = _model().BloomFilter(parameters)
    return model


def fu_model(parameters: Any) -> RtlModel:
    """Return the registers of `bloom_fu`."""
    model: RtlModel = _model().BloomFu(parameters)
    return model


def random_filter_cases(config: Any, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    yield from _made().random_filter_cases(config, seed)


def random_fu_cases(config: Any, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    yield from _made().random_fu_cases(config, seed)


def filter_cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield tiles of a real layer. Raises: MappingError."""
    yield from _made().filter_cases_from(*given)


def fu_cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield tiles of a real layer. Raises: MappingError."""
    yield from _made().fu_cases_from(*given)


RESULT = ("out_valid", None)
BLOOM_FILTER = RtlBlock("bloom_filter", RESULT, filter_parameters, filter_model, random_filter_cases, filter_cases_from)
BLOOM_FU = RtlBlock("bloom_fu", RESULT, fu_parameters, fu_model, random_fu_cases, fu_cases_from)
