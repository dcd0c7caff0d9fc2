"""The tables and the picture of docs/dram.md, from runs: `python -m tests.accept.dram_page` writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

import archsim
from archsim.approx import LayerSetting
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.played import play
from archsim.memory.dram.presets import PRESETS
from archsim.memory.dram.profiles import PROFILES, TIMED, Level
from archsim.memory.dram.timings import lengthened
from archsim.memory.dram.trace import Requests
from archsim.result import LayerResult
from archsim.session import Session
from archsim.workload.bench import Workbench
from tests.accept.page import Page, Rows, Table
from tests.accept.plot import Panel, Series, picture
from tests.accept.tuned import ROOT
from tests.dram.traces import trace

PICTURE = ROOT / "docs" / "dram-accuracy.svg"
STUDIES = {"LeNet-5": "approx-dram-lenet.yaml", "ResNet-20": "approx-dram-resnet20.yaml"}
BERS = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
REGIONS = ("weights", "ifmap")
PROFILE_OF = {"thesis_t46": "DDR3-1600-2Gb-x16", "voltron_C": "DDR3L-1600-4Gb-x8"}
"""Profile -> the DRAM it is shown on, whose currents are those at the supply the profile counts from."""
MEMORY = "platform.memory"
SAFE_mV = 1300


# runs ----------------------------------------------------------------------------------------------------------------
@cache
def session(study: str, *changes: str) -> Session:
    """Return a shipped study, changed, on which settings are tried."""
    loaded = archsim.load_study(study, list(changes))
    return Session(Workbench(loaded.workload, loaded.folder), loaded, loaded.assign)


@cache
def with_bers(network: str) -> Session:
    """Return a study whose levels are the bit error rates of `BERS`."""
    rows = ", ".join(f"{{ber: {ber:.1e}}}" for ber in BERS)
    return session(STUDIES[network], f"{MEMORY}.profile=[{rows}]")


@cache
def with_profile(network: str, profile: str) -> Session:
    """Return a study on the DRAM and at the levels of a profile; what is exact lies at 1.3 V."""
    memory = f"{{kind: dram, preset: {PROFILE_OF[profile]}, supply_mV: {SAFE_mV}, profile: {profile}}}"
    return session(STUDIES[network], f"{MEMORY}={memory}")


def machine_layers(run: Session) -> list[str]:
    """Return the layers on the machine."""
    return [layer.name for layer in run.network.layers if run.seating.where[layer.name] == "npu"]


def at_level(run: Session, level: int, *regions: str) -> dict[str, LayerSetting]:
    """Return the setting in which these regions of every layer lie at a level."""
    return {name: LayerSetting({f"dram_{region}": level for region in regions}) for name in machine_layers(run)}


class Point(NamedTuple):
    """Accuracy of all images, energy of one."""

    top1: float
    dram_pJ: float
    total_pJ: float


@cache
def point(run: Session, level: int, *regions: str) -> Point:
    """Run all images with some regions at a level; time one."""
    setting = at_level(run, level, *regions)
    accuracy, (totals, layers) = run.quality(setting), run.cost(setting)
    assert accuracy is not None
    return Point(accuracy.top1, dram_pJ(layers), totals.energy_pJ)


def priced(run: Session, level: int) -> Point:
    """Return the energy of one image with weights and all maps at a level, ofmaps written there included."""
    totals, layers = run.cost(at_level(run, level, *REGIONS, "ofmap"))
    return Point(math.nan, dram_pJ(layers), totals.energy_pJ)


def dram_pJ(layers: Sequence[LayerResult]) -> float:
    """Return the energy of the memory: commands of all regions, refresh and standby."""
    return math.fsum(pJ for one in layers for action, pJ in one.energy_pJ.items() if action.startswith("dram"))


@cache
def top1(run: Session, level: int, *regions: str) -> float:
    """Return the accuracy of all images with some regions at a level."""
    accuracy = run.quality(at_level(run, level, *regions))
    assert accuracy is not None
    return accuracy.top1


# profiles ------------------------------------------------------------------------------------------------------------
def profile_rows() -> Rows:
    """Levels of every profile: what is given up, the bit error rate, and what refreshes cost then."""
    rows = []
    for profile in PROFILES.values():
        nominal = f"{profile.nominal_mV / 1000:g} V" if profile.nominal_mV else "-"
        levels = "; ".join(f"{row.label} {row.ber:.3g}" for row in profile.levels)
        factors = [f"{row.refresh_energy:.3g}" for row in profile.levels]
        rows.append([f"`{profile.name}`", nominal, levels, ", ".join(factors) if set(factors) != {"1"} else "-"])
    return rows


# timings -------------------------------------------------------------------------------------------------------------
SLOWER, SLOWER_ON = "placeholder_timings", "DDR3L-1600-4Gb-x8"
RANDOM_READS = 20_000
PACED_CYCLES = 60


def timing_rows() -> Rows:
    """Rows of the placeholder: ns asked for, cycles kept, random reads, and LeNet-5 with all its data at that row."""
    machines = [
        session(
            STUDIES["LeNet-5"],
            "workload.data.images=1",
            f"platform.accelerators.npu={machine}",
            f"{MEMORY}={{kind: dram, preset: {SLOWER_ON}, profile: {SLOWER}}}",
        )
        for machine in MACHINES.values()
    ]
    rows = []
    for level, row in enumerate((None, *PROFILES[SLOWER].levels)):
        asked = [f"{ns:g}" for ns in row.timings_ns.values()] if row else ["-"]
        rows.append([row.label if row else "exact", "-".join(asked), *_random_reads(row)])
        for run in machines:
            totals, layers = run.cost(at_level(run, level, *REGIONS, "ofmap"))
            rows[-1] += [f"{totals.latency_us:.2f}", f"{dram_pJ(layers) / 1e6:.2f}"]
    return rows


def _random_reads(row: Level | None) -> list[str]:
    """Return cycles and ns of tRCD, tRP, tRAS in force, time of random reads, mean latency if they are paced."""
    plain = DramConfig(**PRESETS[SLOWER_ON])
    timed = lengthened(plain, [row] if row else [])
    cycles = [getattr(timed, f"{name}_cycles") for name in TIMED]
    lines, writes = trace("A", "random", RANDOM_READS)
    us, latency = (
        play(plain, [Requests(lines, writes, gap * np.arange(RANDOM_READS))], row).to_dict()
        for gap in (0, PACED_CYCLES)
    )
    return [
        "-".join(map(str, cycles)),
        "-".join(f"{n * plain.tCK_ps / 1000:g}" for n in cycles),
        f"{us['latency_us']:.1f}",
        f"{latency['read_latency_cycles']['mean'] * plain.tCK_ps / 1000:.1f}",
    ]


# accuracy ------------------------------------------------------------------------------------------------------------
def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def ber_rows() -> Rows:
    """Accuracy over the bit error rate, weights and ifmaps apart."""
    rows = [["0", *(percent(top1(with_bers(network), 0, region)) for network in STUDIES for region in REGIONS)]]
    for level, ber in enumerate(BERS, 1):
        cells = (percent(top1(with_bers(network), level, region)) for network in STUDIES for region in REGIONS)
        rows.append([f"{ber:.0e}".replace("e-0", "e-"), *cells])
    return rows


def supply_rows() -> Rows:
    """Accuracy and energy over the supply, two profiles, weights and ifmaps apart and together."""
    rows = []
    for network in STUDIES:
        for profile in PROFILE_OF:
            run = with_profile(network, profile)
            base = point(run, 0, *REGIONS)
            for level, row in enumerate(PROFILES[profile].levels, 1):
                both = point(run, level, *REGIONS)
                energies = [1 - point(run, level, region).dram_pJ / base.dram_pJ for region in REGIONS]
                everything = priced(run, level)
                rows.append(
                    [
                        network,
                        profile,
                        row.label,
                        f"{row.ber:.2e}" if row.ber else "0",
                        *(percent(point(run, level, region).top1) for region in REGIONS),
                        percent(both.top1),
                        *(percent(saved) for saved in energies),
                        percent(1 - everything.dram_pJ / base.dram_pJ),
                        f"{everything.dram_pJ / 1e6:.1f}",
                        f"{everything.total_pJ / 1e6:.1f}",
                    ]
                )
    return rows


def draw() -> str:
    """Return accuracy over BER and over supply as a picture."""
    panels = []
    for network in STUDIES:
        series = [
            Series(region, [(ber, 100 * top1(with_bers(network), i, region)) for i, ber in enumerate(BERS, 1)])
            for region in REGIONS
        ]
        panels.append(Panel(network, "bit error rate", "top-1, %", tuple(series), log_x=True))
    for network in STUDIES:
        series = []
        for profile in PROFILE_OF:
            run = with_profile(network, profile)
            for region in REGIONS:
                points = [
                    (row.supply_mV / 1000, 100 * point(run, level, region).top1)
                    for level, row in enumerate(PROFILES[profile].levels, 1)
                    if row.supply_mV
                ]
                series.append(Series(f"{region}, {profile}", points))
        panels.append(Panel(network, "supply, V", "top-1, %", tuple(series), falling_x=True))
    return picture(panels)


# the thesis ----------------------------------------------------------------------------------------------------------
PLAIN_BITS = 16
FRACTION_BITS = {"weights": 5 + 0.14, "maps": 5 + 0.25}
"""Mean fractional bits of ResNet-56 with fine-tuning: 14 % of the layers' weights and 25 % of their maps take 6, the
others 5. Source: the thesis's text on Figure 4.6; bits of sign and integer part are not given."""
INTEGER_BITS = (0, 1, 2, 3, 4)
CURRENTS = ("DDR3-1600-2Gb-x16", "DDR3-1600-2GB-UDIMM")
LAWS = ("linear", "quadratic")
STANDBY = ("dram.active_cycle", "dram.idle_cycle", "dram.refresh")


@cache
def resnet56(preset: str, law: str, supply_mV: int) -> dict[str, float]:
    """Return the DRAM energy of an image by action, pJ, 16-bit words."""
    memory = f"{{kind: dram, preset: {preset}, supply_mV: {supply_mV}, vdd_law: {law}}}"
    changes = ("workload.network=resnet56_cifar10.onnx", "workload.data.images=1", f"{MEMORY}={memory}")
    _, layers = session(STUDIES["ResNet-20"], *changes).cost({})
    found: dict[str, float] = {}
    for layer in layers:
        for action, pJ in layer.energy_pJ.items():
            if action.startswith("dram"):
                found[action] = found.get(action, 0.0) + pJ
    return found


def narrowed(energy_pJ: dict[str, float], weights_bits: float, maps_bits: float, *, standby: bool) -> float:
    """Return the energy if words are packed at fewer bits; `standby`: the channel waits as long as before."""
    total = 0.0
    for action, pJ in energy_pJ.items():
        if action in STANDBY:
            total += pJ if standby else 0.0
        else:
            bits = weights_bits if action.startswith("dram_weights") else maps_bits
            total += pJ * bits / PLAIN_BITS
    return total


def saving(preset: str, law: str, integer: int, base_mV: int, *, standby: bool) -> float:
    """Return the share of energy saved by the learned widths at 1.3 V, against 16 bits at `base_mV`."""
    plain = narrowed(resnet56(preset, law, base_mV), PLAIN_BITS, PLAIN_BITS, standby=standby)
    bits = [FRACTION_BITS[kind] + integer for kind in ("weights", "maps")]
    return 1 - narrowed(resnet56(preset, law, SAFE_mV), bits[0], bits[1], standby=standby) / plain


def thesis_rows() -> Rows:
    """ResNet-56: what narrower words save, for every reading the thesis leaves open."""
    rows = [["thesis", "", "", "45.9", "68.0", "0.590"]]
    for preset in CURRENTS:
        for law in LAWS:
            for standby in (False, True):
                for base in ((SAFE_mV, 1500),):
                    cells = []
                    for base_mV in base:
                        found = [saving(preset, law, integer, base_mV, standby=standby) for integer in INTEGER_BITS]
                        cells.append(" / ".join(percent(one) for one in found))
                    ratio = sum(resnet56(preset, law, SAFE_mV).values()) / sum(resnet56(preset, law, 1500).values())
                    told = "commands and standby" if standby else "commands only"
                    rows.append([preset, law, told, *cells, f"{ratio:.3f}"])
    return rows


# machines ------------------------------------------------------------------------------------------------------------
MACHINES = {
    "Eyeriss": "{kind: eyeriss, preset: chip-jssc17}",
    "SnaPEA": "{kind: snapea, preset: isca18, mode: exact}",
}
DRAMS = ("DDR3-1600-2Gb-x16", "DDR4-2400-8Gb-x8")


def machine_rows() -> Rows:
    """ResNet-20 and LeNet-5 on two machines and two DRAMs: one image."""
    rows = []
    for network, study in STUDIES.items():
        for name, machine in MACHINES.items():
            for preset in DRAMS:
                changes = (
                    "workload.data.images=1",
                    f"platform.accelerators.npu={machine}",
                    f"{MEMORY}={{kind: dram, preset: {preset}}}",
                )
                totals, layers = session(study, *changes).cost({})
                rows.append([network, name, preset, *_figures(totals, layers)])
    return rows


def _figures(totals: Any, layers: Sequence[LayerResult]) -> list[str]:
    """Return latency, share of stalls, row hits, mean read latency, bandwidth, and energy by tensor."""
    timed = [layer for layer in layers if "dram_row_requests" in layer.metrics]

    def total(name: str) -> float:
        return math.fsum(layer.metrics[name] for layer in timed)

    def energy(component: str) -> str:
        pJ = math.fsum(
            pJ for layer in timed for action, pJ in layer.energy_pJ.items() if action.split(".")[0] == component
        )
        return f"{pJ / 1e6:.2f}"

    return [
        f"{totals.latency_us:.0f}",
        percent(total("memory_stall_cycles") / sum(layer.cycles for layer in timed)),
        percent(total("dram_row_hit_requests") / total("dram_row_requests")),
        f"{total('dram_read_latency_ns') / total('dram_read_requests'):.0f}",
        f"{total('dram_moved_bytes') / total('dram_elapsed_ns'):.2f}",
        *(energy(f"dram_{region}") for region in ("weights", "ifmap", "ofmap")),
        energy("dram"),
        f"{totals.energy_pJ / 1e6:.1f}",
    ]


TABLES: dict[str, Table] = {
    "profiles": (("profile", "counts from", "level: BER", "refresh energy x"), profile_rows),
    "timings": (
        (
            "all data at", "tRCD-tRP-tRAS asked, ns", "kept, cycles", "kept, ns", "20 000 random reads, us",
            "paced read, ns", *(f"{name} {what}" for name in MACHINES for what in ("us", "DRAM uJ")),
        ),
        timing_rows,
    ),
    "ber": (("BER", *(f"{network}, {region}" for network in STUDIES for region in REGIONS)), ber_rows),
    "supply": (
        (
            "network", "profile", "supply", "BER", "weights %", "ifmaps %", "both %", "saved, weights %",
            "saved, ifmaps %", "saved, all %", "DRAM uJ", "total uJ",
        ),
        supply_rows,
    ),
    "thesis": (
        ("currents", "law", "what is counted", "saved, base 1.3 V %", "saved, base 1.5 V %", "E(1.3 V) / E(1.5 V)"),
        thesis_rows,
    ),
    "machines": (
        (
            "network", "machine", "DRAM", "latency us", "stalled %", "row hits %", "read latency ns", "GB/s",
            "weights uJ", "ifmaps uJ", "ofmaps uJ", "refresh, standby uJ", "total uJ",
        ),
        machine_rows,
    ),
}  # fmt: skip
DRAM = Page(ROOT / "docs" / "dram.md", TABLES)

if __name__ == "__main__":
    import sys

    DRAM.write(sys.argv[1:])
    PICTURE.write_text(draw(), encoding="utf-8")
