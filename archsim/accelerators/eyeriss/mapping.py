"""From a layer to its plan: what the machine can run, calls of large layers, explicit plans, search, placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from archsim.accelerators.base import Placement, Stored
from archsim.accelerators.eyeriss.config import WORD_BYTES, ExplicitPlan, EyerissConfig
from archsim.accelerators.eyeriss.plan import (
    EyerissPlan,
    as_conv,
    call_size,
    check_plan,
    group_channels,
    group_filters,
    ifmap_buffer_bytes,
    padded_columns,
    psum_buffer_bytes,
    window_columns,
    window_rows,
)
from archsim.accelerators.feature_maps import SharedMap, keep_on_chip
from archsim.errors import MappingError, did_you_mean
from archsim.workload.layers import Conv, Layer
from archsim.yamlfile import read_yaml, validate

if TYPE_CHECKING:
    from archsim.accelerators.eyeriss.search import Space

PLANS = Path(__file__).with_name("plans.yaml")


def map_layer(config: EyerissConfig, layer: Layer, stored: Stored, placement: Placement) -> EyerissPlan:
    """Return the explicit plan of `layer` or else the best one found.

    Raises: MappingError naming the violated limit or rule with both numbers.
    """
    conv = as_conv(layer)
    check_layer(config, conv)
    frame = plan_frame(config, conv, placement, not stored.params.reads_network_input)
    explicit = config.plans.get(layer.name)
    if explicit is None:
        return _searched(config, conv, frame)
    plan = replace(frame, **_fields(explicit, layer.name).model_dump())
    check_plan(config, conv, plan)
    return plan


def check_layer(config: EyerissConfig, conv: Conv) -> None:
    """Refuse a layer the machine cannot run under any plan. Raises: MappingError."""
    limits = (
        ("filter height R within native_filter_height", conv.R, config.native_filter_height),
        ("filter height R within pe_rows", conv.R, config.pe_rows),
        ("filter width S within native_filter_width", conv.S, config.native_filter_width),
        ("filter columns within spad_ifmap_words", window_columns(conv), config.spad_ifmap_words),
        ("horizontal stride within native_horizontal_stride", conv.stride[1], config.native_horizontal_stride),
    )
    for rule, value, limit in limits:
        if value > limit:
            raise MappingError(f"layer {conv.name!r}: {rule}: got {value}, limit {limit}; at most {limit}")
    strides = config.native_vertical_strides
    if conv.stride[0] not in strides:
        nearest = min(strides, key=lambda stride: abs(stride - conv.stride[0]))
        allowed = ", ".join(map(str, strides))
        raise MappingError(
            f"layer {conv.name!r}: vertical stride in native_vertical_strides: got {conv.stride[0]}, "
            f"allowed {allowed}; nearest {nearest}"
        )


def _calls(size: int, limit: int) -> int:
    """Return into how many equal calls of at most `limit` something is cut."""
    size_of_one = call_size(size, -(-size // limit))
    return -(-size // size_of_one)


def plan_frame(config: EyerissConfig, conv: Conv, placement: Placement, compress_ifmap: bool) -> EyerissPlan:
    """Return the smallest plan with everything in place that the search does not decide."""
    return EyerissPlan(
        batch=conv.N,
        strip_rows=1,
        resident_filters=1,
        pass_ifmaps=1,
        interleaved_filters=1,
        interleaved_channels=1,
        channel_sets=1,
        filter_sets=1,
        filter_calls=_calls(group_filters(conv), config.max_filters_per_call),
        channel_calls=_calls(group_channels(conv), config.max_channels_per_call),
        compress_ifmap=compress_ifmap,
        ifmap_on_chip="ifmap" in placement.chip,
        ofmap_on_chip="ofmap" in placement.chip,
    )


def _searched(config: EyerissConfig, conv: Conv, frame: EyerissPlan) -> EyerissPlan:
    """Return the best legal plan; if there is none, the smallest one says which rule stands in the way."""
    from archsim.accelerators.eyeriss.search import best_mapping

    found = best_mapping(search_space(config, conv, frame), config.objective)
    plan = frame if found is None else replace(frame, **ExplicitPlan(**found).model_dump())
    check_plan(config, conv, plan)
    return plan


def search_space(config: EyerissConfig, conv: Conv, frame: EyerissPlan) -> Space:
    """Return the layer and the limits as the search kernel takes them."""
    from archsim.accelerators.eyeriss.search import Space

    bank = config.global_buffer_bank_bytes
    return Space(
        N=conv.N,
        groups=conv.groups,
        C=group_channels(conv),
        M=group_filters(conv),
        W=padded_columns(conv),
        P=conv.P,
        Q=conv.Q,
        R=conv.R,
        S=conv.S,
        stride=conv.stride[0],
        window_rows=window_rows(conv),
        window_columns=window_columns(conv),
        channels_per_call=call_size(group_channels(conv), frame.channel_calls),
        filters_per_call=call_size(group_filters(conv), frame.filter_calls),
        pe_rows=config.pe_rows,
        pe_columns=config.pe_columns,
        spad_filter_words=config.spad_filter_words,
        spad_ifmap_words=config.spad_ifmap_words,
        spad_psum_words=config.spad_psum_words,
        banks=config.global_buffer_banks,
        bank_words=bank // WORD_BYTES,
        filter_buffer_words=config.filter_buffer_bytes // WORD_BYTES,
        ifmap_resident_banks=-(-ifmap_buffer_bytes(conv, frame) // bank) if frame.ifmap_on_chip else -1,
        psum_resident_banks=-(-psum_buffer_bytes(conv, frame) // bank) if frame.ofmap_on_chip else -1,
        filter_bus_bits=config.filter_bus_bits,
        ifmap_bus_bits=config.ifmap_bus_bits,
        psum_bus_bits=config.psum_bus_bits,
        serial_fill=int(config.fill == "serial"),
        shared_psum=int(config.shared_psum_bus),
    )


def _fields(explicit: str | ExplicitPlan, layer: str) -> ExplicitPlan:
    """Return the fields of an explicit plan, looked up if it is a name. Raises: MappingError for an unknown name."""
    if isinstance(explicit, ExplicitPlan):
        return explicit
    known = shipped_plans()
    if explicit not in known:
        raise MappingError(f"layer {layer!r}: unknown plan {explicit!r}{did_you_mean(explicit, known)}")
    return known[explicit]


@lru_cache(maxsize=1)
def shipped_plans() -> dict[str, ExplicitPlan]:
    """Return the plans of `plans.yaml` by name."""
    source = read_yaml(PLANS)
    return {name: validate(ExplicitPlan, fields, source, (name,)) for name, fields in source.data.items()}


def place_layers(config: EyerissConfig, layers: Sequence[Layer]) -> dict[str, Placement]:
    """Keep feature maps between layers on chip where the ifmap and the ofmap of all that touch them fit the buffer.

    What pooling in between shrinks, and other maps alive at the same time, are not considered.
    """

    def stays(one: SharedMap) -> bool:
        return all(_maps_fit(config, as_conv(layer)) for layer in (*one.writers, *one.readers))

    return keep_on_chip(layers, stays if config.keep_on_chip == "auto" else lambda one: False)


def _maps_fit(config: EyerissConfig, conv: Conv) -> bool:
    """Return whether the padded ifmap and the ofmap of a whole batch fit the buffer together."""
    whole = plan_frame(config, conv, Placement(frozenset({"ifmap", "ofmap"})), False)
    used = (ifmap_buffer_bytes(conv, whole), psum_buffer_bytes(conv, whole))
    return sum(-(-size // config.global_buffer_bank_bytes) for size in used) <= config.global_buffer_banks
