"""Filters and units as blocks for co-simulation: `rtl/bloom_filter`, `bloom_fu`, `bloom_mac` and `bloom_sqrt`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.accelerators.base import RtlBlock, RtlCase, RtlModel
from archsim.workload.layers import Layer


def _made() -> Any:
    import archsim.accelerators.bloom.rtl_cases as made

    return made


def _made_of_units() -> Any:
    import archsim.accelerators.bloom.rtl_units as made

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


def mac_parameters(config: Any, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_mac`. Raises: MappingError."""
    parameters: dict[str, int] = _model().mac_parameters(config, layer)
    return parameters


def sqrt_parameters(config: Any, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_sqrt`. Raises: MappingError."""
    parameters: dict[str, int] = _model().sqrt_parameters(config, layer)
    return parameters


def mac_model(parameters: Any) -> RtlModel:
    """Return the registers of `bloom_mac`."""
    model: RtlModel = _model().BloomMac(parameters)
    return model


def sqrt_model(parameters: Any) -> RtlModel:
    """Return the registers of `bloom_sqrt`."""
    model: RtlModel = _model().BloomSqrt(parameters)
    return model


def random_mac_cases(config: Any, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    yield from _made_of_units().random_mac_cases(config, seed)


def random_sqrt_cases(config: Any, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    yield from _made_of_units().random_sqrt_cases(config, seed)


def mac_cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield tiles of a real image kernel. Raises: MappingError."""
    yield from _made_of_units().mac_cases_from(*given)


def sqrt_cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield tiles of a real image kernel. Raises: MappingError."""
    yield from _made_of_units().sqrt_cases_from(*given)


RESULT = ("out_valid", None)
BLOOM_FILTER = RtlBlock("bloom_filter", RESULT, filter_parameters, filter_model, random_filter_cases, filter_cases_from)
BLOOM_FU = RtlBlock("bloom_fu", RESULT, fu_parameters, fu_model, random_fu_cases, fu_cases_from)
BLOOM_MAC = RtlBlock("bloom_mac", RESULT, mac_parameters, mac_model, random_mac_cases, mac_cases_from)
BLOOM_SQRT = RtlBlock("bloom_sqrt", RESULT, sqrt_parameters, sqrt_model, random_sqrt_cases, sqrt_cases_from)
