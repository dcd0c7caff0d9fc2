"""What is told about a simulated batch besides cycles and counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.accelerators.base import Clockwork, Timing
from archsim.accelerators.eyeriss.closed_form import Buses, PassCycles, bus_cycles, buses_of, channel_blocks
from archsim.accelerators.eyeriss.config import WORD_BYTES, EyerissConfig
from archsim.accelerators.eyeriss.plan import EyerissPlan
from archsim.accelerators.eyeriss.schedule import Schedule
from archsim.accelerators.eyeriss.traffic import dram_words, published_buffer_words, structure_counts
from archsim.units import bytes_to_MB, cycles_to_ms
from archsim.workload.layers import Conv


def timing_of(
    config: EyerissConfig,
    conv: Conv,
    plan: EyerissPlan,
    passes: Schedule,
    work: Clockwork,
    dram_stall_cycles: int,
    prefetch_stall_cycles: int,
) -> Timing:
    """Return the bound that binds and the metrics of a batch that has just ended."""
    total = int(work.env.now)
    processing = total - dram_stall_cycles
    spent = cycles_by_bound(passes, buses_of(config))
    spent["dram"] = dram_stall_cycles + prefetch_stall_cycles
    metrics = {
        "total_cycles": total,
        "processing_cycles": processing,
        "total_latency_ms": cycles_to_ms(total, config.clock_MHz),
        "processing_latency_ms": cycles_to_ms(processing, config.clock_MHz),
        "dram_stall_cycles": dram_stall_cycles,
        "prefetch_stall_cycles": prefetch_stall_cycles,
        "active_pes": plan.active_pes(conv),
        **pass_metrics(passes, buses_of(config), total),
        **floors(config, conv, plan, passes),
        **traffic_metrics(conv, plan, work),
    }
    return Timing(max(spent, key=lambda bound: spent[bound]), metrics)


def binding(one: PassCycles, buses: Buses, psums_in: bool) -> str:
    """Return what decides how long a pass streams; compute wins ties."""
    stream = one.stream(buses, psums_in)
    if one.compute == stream:
        return "compute"
    return "psum_bus" if one.psum_bus(buses, psums_in) == stream else "ifmap_bus"


def cycles_by_bound(passes: Schedule, buses: Buses) -> dict[str, int]:
    """Return the array's busy cycles by what held them: streaming by its bound, filling by its bus."""
    spent = dict.fromkeys(("compute", "psum_bus", "ifmap_bus", "filter_bus"), 0)
    for one, psums_in, count in passes.kinds:
        spent[binding(one, buses, psums_in)] += count * one.stream(buses, psums_in)
        if buses.serial_fill or one.filter >= one.first_window:
            spent["filter_bus"] += count * one.filter
        if buses.serial_fill or one.filter < one.first_window:
            spent["ifmap_bus"] += count * one.first_window
    return spent


def pass_metrics(passes: Schedule, buses: Buses, total: int) -> dict[str, Any]:
    """Return passes by bound, fill cycles, and the fraction of all cycles each bus is busy."""
    bound = [(binding(one, buses, inward), n) for one, inward, n in passes.kinds]
    busy = {
        "filter_bus": sum(n * one.filter for one, _, n in passes.kinds),
        "ifmap_bus": sum(n * one.ifmap for one, _, n in passes.kinds),
        "psum_in_bus": sum(n * one.psum for one, inward, n in passes.kinds if inward),
        "psum_out_bus": sum(n * one.psum for one, _, n in passes.kinds),
    }
    return {
        "total_passes": len(passes.stream),
        "compute_bound_passes": sum(n for name, n in bound if name == "compute"),
        "psum_bound_passes": sum(n for name, n in bound if name == "psum_bus"),
        "ifmap_bound_passes": sum(n for name, n in bound if name == "ifmap_bus"),
        "fill_cycles": int(passes.fill.sum()),
        **{f"{name}_utilisation": cycles / total for name, cycles in busy.items()},
    }


def floors(config: EyerissConfig, conv: Conv, plan: EyerissPlan, passes: Schedule) -> dict[str, int]:
    """Return what no schedule of these passes can undercut: compute, psums one way, ifmap words on the bus."""
    counts = structure_counts(conv, plan)
    psum_words = channel_blocks(conv, plan) * plan.batch * conv.M * conv.P * conv.Q
    return {
        "compute_floor_cycles": sum(n * one.compute for one, _, n in passes.kinds),
        "psum_floor_cycles": bus_cycles(psum_words, config.psum_bus_bits),
        "ifmap_floor_cycles": bus_cycles(counts["noc.ifmap_word"], config.ifmap_bus_bits),
    }


def traffic_metrics(conv: Conv, plan: EyerissPlan, work: Clockwork) -> dict[str, float]:
    """Return buffer and DRAM traffic in 10^6 bytes; `glb_MB` is the sum the chip's table prints."""
    moved = dict(_region_MB(work))
    return {
        "glb_MB": bytes_to_MB(published_buffer_words(structure_counts(conv, plan)) * WORD_BYTES),
        "dram_MB": sum(moved.values()),
        "dram_uncompressed_MB": dram_words(conv, plan).MB,
        "dram_ifmap_MB": moved.get("ifmap", 0.0),
        "dram_filter_MB": moved.get("weights", 0.0),
        "dram_ofmap_MB": moved.get("ofmap", 0.0),
        "dram_psum_MB": moved.get("other", 0.0),
    }


def _region_MB(work: Clockwork) -> Iterator[tuple[str, float]]:
    """Yield (region, MB moved both ways)."""
    regions = sorted({region for region, _ in work.memory.bytes_moved})
    for region in regions:
        moved = (n for (name, _), n in work.memory.bytes_moved.items() if name == region)
        yield region, bytes_to_MB(sum(moved))
