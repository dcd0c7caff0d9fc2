"""E7, E8: traffic formulas against a walk over every tile and pass, and against the measured chip."""

import numpy as np
import pytest
from eyeriss_cases import (
    ALEXNET,
    CHIP,
    CONVS,
    REFERENCE,
    alexnet_plan,
    alexnet_run,
    conv,
    link,
    machine,
    mapped,
    random_cases,
    random_plan,
)

from archsim.accelerators.clockwork import simulate_batch
from archsim.accelerators.eyeriss.closed_form import buses_of
from archsim.accelerators.eyeriss.plan import padded_columns
from archsim.accelerators.eyeriss.schedule import schedule
from archsim.accelerators.eyeriss.tiles import ifmap_tiles, ofmap_tiles, tile_words
from archsim.accelerators.eyeriss.traffic import dram_words, structure_counts, total_passes

DERIVED = {row["layer"]: row for row in REFERENCE["derived"]["rows"]}
DERIVED["conv3"] = DERIVED.pop("CONV3 alternative")


@pytest.mark.parametrize("name", CONVS)
def test_uncompressed_dram_traffic_by_tensor(name):
    _, plan = alexnet_plan(name)
    words = dram_words(ALEXNET[name], plan)
    expected = DERIVED[name if name == "conv3" else name.upper()]["dram_uncompressed_MB"]
    found = {"ifmap": words.ifmap, "filter": words.filter, "ofmap": words.ofmap}
    for tensor, n in found.items():
        assert 2e-6 * n == pytest.approx(expected[tensor], abs=6e-4)
    assert pytest.approx(expected["total"], abs=0.005) == words.MB


@pytest.mark.parametrize("name", CONVS)
def test_global_buffer_traffic_of_the_chip(name):
    assert alexnet_run(name)[1].timing.metrics["glb_MB"] == pytest.approx(CHIP[name]["glb_accesses_MB"], rel=0.01)


def test_the_printed_row_of_conv3_does_not_give_the_measured_traffic():
    assert alexnet_run("conv3", "alexnet-conv3")[1].timing.metrics["glb_MB"] == pytest.approx(69.22, abs=0.01)


def test_compressed_dram_traffic_of_the_chip():
    model = {name: alexnet_run(name)[1].timing.metrics["dram_MB"] for name in CONVS}
    for name, expected in zip(CONVS, (4.91, 4.21, 2.93, 2.06, 1.40)):
        assert model[name] == pytest.approx(expected, abs=0.01)
        assert model[name] == pytest.approx(CHIP[name]["dram_accesses_MB"], rel=0.10)
    assert sum(model.values()) == pytest.approx(CHIP["total"]["dram_accesses_MB"], rel=0.05)


def test_the_memory_moves_what_the_metrics_say():
    run = alexnet_run("conv2")[1]
    parts = [run.timing.metrics[f"dram_{part}_MB"] for part in ("ifmap", "filter", "ofmap", "psum")]
    bits = run.memory_counts["link.read_bit"] + run.memory_counts["link.write_bit"]
    assert sum(parts) == pytest.approx(run.timing.metrics["dram_MB"]) == pytest.approx(bits / 8e6)
    assert min(parts[:3]) > 0 == parts[3]


def walk(eyeriss, layer, plan):
    """Return words moved, added up tile by tile and pass by pass."""
    passes = schedule(layer, plan, buses_of(eyeriss.config))
    ifmap = tile_words(ifmap_tiles(layer, plan), padded_columns(layer))
    ofmap = tile_words(ofmap_tiles(layer, plan), layer.Q)
    dumps = passes.dump[passes.dump >= 0]
    final = passes.dump[(passes.dump >= 0) & (passes.dumps_psums == 0)]
    return {
        "passes": len(passes.stream),
        "filter": passes.filter_bytes.sum() // 2,
        "ifmap": ifmap[passes.load[passes.load >= 0]].sum(),
        "ofmap": ofmap[final].sum(),
        "psum": ofmap[dumps].sum() - ofmap[final].sum() + ofmap[passes.reload[passes.reload >= 0]].sum(),
    }


def test_dram_formulas_equal_a_walk_over_tiles_and_passes():
    for eyeriss, layer, plan in random_cases(60, seed=41):
        found, words = walk(eyeriss, layer, plan), dram_words(layer, plan)
        assert found["passes"] == total_passes(layer, plan)
        assert (found["ifmap"], found["filter"], found["ofmap"], found["psum"]) == tuple(words)
        assert words.ofmap == layer.N * layer.M * layer.P * layer.Q


def test_every_weight_is_read_from_its_own_place():
    for eyeriss, layer, plan in random_cases(24, seed=42):
        passes = schedule(layer, plan, buses_of(eyeriss.config))
        blocks = sorted(set(zip(passes.filter_offset.tolist(), passes.filter_bytes.tolist())))
        ends = [offset + size for offset, size in blocks]
        assert [offset for offset, _ in blocks] == [0, *ends[:-1]]
        assert ends[-1] == 2 * layer.weight_count


BLOCKS = {
    "strip_rows": 2, "pass_ifmaps": 1, "interleaved_filters": 4, "interleaved_channels": 2, "channel_sets": 1,
    "filter_sets": 1,
}  # fmt: skip


def test_psums_are_counted_once_per_channel_block():
    layer = conv("l", 6, 8, 4, 3)
    eyeriss = machine(plans={"l": {**BLOCKS, "resident_filters": 4, "interleaved_filters": 2, "filter_sets": 2}})
    counts = structure_counts(layer, mapped(eyeriss, layer))
    ofmap, blocks, strips = 4 * 4 * 4, 4, 2
    assert counts["global_buffer.psum_write"] == counts["global_buffer.psum_read"] == blocks * ofmap
    assert counts["noc.psum_word"] == (2 * blocks - 1) * ofmap  # the last read goes to DRAM, not to the array
    assert counts["noc.psum_hop"] == blocks * ofmap * 2  # two links between the three rows of a set
    assert counts["global_buffer.ifmap_read"] == blocks * 2 * strips * 4 * 6
    assert counts["global_buffer.filter_read"] == strips * blocks * 4 * 2 * 9
    assert counts["noc.filter_delivery"] == counts["spad.filter_write"] == 2 * counts["noc.filter_word"]
    # Each of the 3 x 2 PEs of two filter sets takes a row of 6 words and two channels in every pass.
    assert counts["noc.ifmap_delivery"] == strips * blocks * 2 * 6 * 2 * 6


def test_a_partial_block_is_charged_as_a_full_one():
    whole, ragged = conv("l", 6, 6, 8, 3), conv("l", 6, 5, 7, 3)
    counts = [
        structure_counts(layer, mapped(machine(plans={"l": {**BLOCKS, "resident_filters": layer.M}}), layer))
        for layer in (whole, ragged)
    ]
    for action in ("global_buffer.ifmap_read", "global_buffer.filter_read", "noc.filter_delivery"):
        assert counts[0][action] == counts[1][action]
    assert counts[1]["global_buffer.psum_write"] == 7 / 8 * counts[0]["global_buffer.psum_write"]


def test_every_counted_action_is_declared_and_most_actions_are_counted():
    seen = set()
    rng = np.random.default_rng(43)
    for eyeriss, layer, _ in random_cases(8, seed=43):
        plan = random_plan(eyeriss.config, layer, rng)
        activity = eyeriss.expect(layer, plan, (0.4, 0.4)).batches[0]
        seen |= simulate_batch(eyeriss, link(), layer, plan, activity).counts.keys()
    assert seen == machine().actions
