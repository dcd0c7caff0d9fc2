"""E1-E3, E16: legality rules, active PEs, the search, explicit plans on other networks, placement."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from eyeriss_cases import (
    ALEXNET,
    CONVS,
    LAYERS,
    PAD1,
    PAD2,
    REFERENCE,
    alexnet_plan,
    conv,
    machine,
    mapped,
    random_cases,
    random_plan,
)  # fmt: skip

from archsim.accelerators.base import Placement
from archsim.accelerators.eyeriss.closed_form import closed_form
from archsim.accelerators.eyeriss.mapping import plan_frame, search_space, shipped_plans
from archsim.accelerators.eyeriss.plan import (
    as_conv,
    buffer_banks,
    check_plan,
    ifmap_buffer_bytes,
    plan_rules,
    psum_buffer_bytes,
    sets_that_fit,
)  # fmt: skip
from archsim.accelerators.eyeriss.search import FIELDS, OBJECTIVES, evaluate
from archsim.accelerators.eyeriss.traffic import dram_words, published_buffer_words, structure_counts, total_passes
from archsim.errors import MappingError
from archsim.workload.layers import Linear

CHIP = machine()
TABLE_III = {row["layer"].lower(): row for row in REFERENCE["alexnet_rs_mapping"]["rows"]}
LETTERS = dict(zip("emnpqrt", (
    "strip_rows", "resident_filters", "pass_ifmaps", "interleaved_filters", "interleaved_channels", "channel_sets",
    "filter_sets",
)))  # fmt: skip
KIB = 1024


def letters(plan):
    return {letter: getattr(plan, name) for letter, name in LETTERS.items()}


@pytest.mark.parametrize("name", CONVS)
def test_table_iii_is_shipped_legal_and_its_buffer_columns_recompute(name):
    _, plan = alexnet_plan(name, f"alexnet-{name}")
    row, layer = TABLE_III[name], ALEXNET[name]
    assert letters(plan) == {letter: row[letter] for letter in LETTERS}
    assert round(ifmap_buffer_bytes(layer, plan) / KIB, 1) == row["glb_ifmap_KB"]
    assert round(psum_buffer_bytes(layer, plan) / KIB, 1) == row["glb_psum_KB"]


@pytest.mark.parametrize(("name", "banks"), list(zip(CONVS, (23, 24, 24, 25, 25))))
def test_table_iii_uses_these_banks(name, banks):
    _, plan = alexnet_plan(name, f"alexnet-{name}")
    assert buffer_banks(CHIP.config, ALEXNET[name], plan) == banks


def test_conv3_alternative_is_shipped():
    _, plan = alexnet_plan("conv3")
    expected = REFERENCE["alexnet_rs_mapping"]["conv3_alternative"]
    assert letters(plan) == {letter: expected[letter] for letter in LETTERS}


@pytest.mark.parametrize(("name", "pes"), list(zip(CONVS, (154, 135, 156, 156, 156))))
def test_active_pes(name, pes):
    for plan_name in {f"alexnet-{name}", "alexnet-conv3-alt"} if name == "conv3" else {f"alexnet-{name}"}:
        assert alexnet_plan(name, plan_name)[1].active_pes(ALEXNET[name]) == pes


@pytest.mark.parametrize(
    ("rows", "width", "sets"),
    [(11, 7, 2), (11, 8, 1), (5, 27, 1), (3, 13, 4), (3, 14, 4), (3, 15, 2), (3, 57, 0), (1, 28, 6)],
)
def test_sets_that_fit(rows, width, sets):
    assert sets_that_fit(CHIP.config, rows, width) == sets


# E3: the search -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CONVS)
def test_edp_search_recovers_the_chips_mapping(name):
    found = mapped(CHIP, ALEXNET[name])
    _, printed = alexnet_plan(name)
    if name == "conv2":
        assert letters(found) == {**letters(printed), "m": 32, "n": 2}
    else:
        assert letters(found) == letters(printed)


@pytest.mark.parametrize("change", [{"fill": "parallel"}, {"shared_psum_bus": True}, {}])
@pytest.mark.parametrize("name", CONVS)
def test_search_never_scores_worse_than_table_iii(name, change):
    eyeriss = machine(**change)
    printed = replace(alexnet_plan(name, f"alexnet-{name}")[1], compress_ifmap=True)
    assert score(eyeriss, ALEXNET[name], mapped(eyeriss, ALEXNET[name])) <= score(eyeriss, ALEXNET[name], printed)


def edp_energy(layer, plan):
    """Energy in MACs from the traffic module, which the search kernel does not use."""
    dram = sum(dram_words(layer, plan))
    buffer = published_buffer_words(structure_counts(layer, plan))
    psums = structure_counts(layer, plan)["global_buffer.psum_write"] // (layer.N * layer.M * layer.P * layer.Q)
    x = psums - (plan.channel_calls - 1)
    hops = 2 * x * layer.N * layer.M * layer.P * layer.Q * layer.R * plan.channel_sets
    return 200 * dram + 6 * (buffer + dram) + hops + 5 * layer.macs_dense


def score(eyeriss, layer, plan, objective="edp"):
    energy, delay = edp_energy(layer, plan), closed_form(eyeriss.config, layer, plan)
    return {"edp": energy * delay, "energy": energy, "latency": delay, "dram": sum(dram_words(layer, plan))}[objective]


def space_of(eyeriss, layer, chip=()):
    frame = plan_frame(eyeriss.config, layer, Placement(frozenset(chip)), True)
    return frame, search_space(eyeriss.config, layer, frame)


@pytest.mark.parametrize("chip", [(), ("ifmap",), ("ifmap", "ofmap")])
def test_search_kernel_evaluates_as_the_formulas_do(chip):
    rng = np.random.default_rng(5)
    for eyeriss, layer, _ in random_cases(40, seed=5, global_buffer_banks=400):
        _, space = space_of(eyeriss, layer, chip)
        plan = random_plan(eyeriss.config, layer, rng, chip)
        energy, cycles, dram, passes = evaluate(space, np.array([getattr(plan, name) for name in FIELDS]))
        assert cycles == closed_form(eyeriss.config, layer, plan)
        assert dram == sum(dram_words(layer, plan))
        assert passes == total_passes(layer, plan)
        assert energy == edp_energy(layer, plan)


def legal_numbers(config, layer):
    """Yield every legal (e, r, t, q, p, n, m) in lexicographic order, from the rules of the paper written once more."""
    channels, filters = -(-layer.C // layer.groups), layer.M // layer.groups
    channels = -(-channels // -(-channels // config.max_channels_per_call))
    filters = -(-filters // -(-filters // config.max_filters_per_call))
    width, kernel = layer.W + layer.pad[1] + layer.pad[3], layer.R * layer.S
    divisors = [n for n in range(1, layer.N + 1) if layer.N % n == 0]
    for e in range(1, layer.P + 1):
        rows, sets = (e - 1) * layer.stride[0] + layer.R, sets_that_fit(config, layer.R, e)
        for r, t in [pair for pair in itertools.product(range(1, sets + 1), repeat=2) if math.prod(pair) <= sets]:
            for q in range(1, min(config.spad_ifmap_words // layer.S, channels // r) + 1):
                spads = min(config.spad_psum_words, config.spad_filter_words // (q * layer.S))
                block = config.filter_buffer_bytes // (2 * q * r * t * kernel)
                for p, n in itertools.product(range(1, min(spads, block, filters // t) + 1), divisors):
                    ifmap_banks = -(-2 * n * q * r * rows * width // config.global_buffer_bank_bytes)
                    for m in sorted({*range(p * t, filters + 1, p * t), filters}):
                        psum_banks = -(-2 * n * m * e * layer.Q // config.global_buffer_bank_bytes)
                        if ifmap_banks + psum_banks > config.global_buffer_banks:
                            break
                        yield e, r, t, q, p, n, m


SMALL = machine(
    spad_filter_words=24, spad_ifmap_words=6, spad_psum_words=4, pe_rows=4, pe_columns=5, global_buffer_banks=5,
    global_buffer_bank_bytes=128, filter_buffer_bytes=200, max_filters_per_call=5, max_channels_per_call=3,
)  # fmt: skip
SMALL_LAYERS = (
    conv("a", 6, 4, 7, 3, 2, pad=PAD1), conv("b", 7, 2, 4, 2, 1, stride=(2, 2)), conv("c", 9, 8, 5, 1, 2, groups=1),
    conv("d", 5, 6, 9, 3, 3, groups=3),
)  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("layer", SMALL_LAYERS, ids=lambda layer: layer.name)
def test_search_returns_the_best_of_all_legal_plans(layer, objective):
    eyeriss = machine(**{**SMALL.config.model_dump(), "objective": objective})
    frame = space_of(eyeriss, layer)[0]
    plans = [replace(frame, **dict(zip(FIELDS, numbers))) for numbers in legal_numbers(eyeriss.config, layer)]
    assert len(plans) > 50
    assert all(rule.holds for plan in plans for rule in plan_rules(eyeriss.config, layer, plan))
    key = {p: (score(eyeriss, layer, p, objective), total_passes(layer, p), edp_energy(layer, p)) for p in plans}
    assert mapped(eyeriss, layer) == min(plans, key=lambda plan: key[plan])


def test_conv1_has_as_many_candidates_as_counted_elsewhere():
    assert sum(1 for _ in legal_numbers(CHIP.config, ALEXNET["conv1"])) == 22294


def test_an_array_without_end_is_searched_as_fast_as_one_that_holds_the_layer():
    layer = conv("c", 9, 4, 6, 3)
    plans = [mapped(machine(pe_rows=rows), layer) for rows in (3 * 4 * 6, 2**31 - 1)]
    assert letters(plans[0]) == letters(plans[1])


def test_objectives_differ_and_rank_as_they_say():
    layer = ALEXNET["conv2"]
    plans = {objective: mapped(machine(objective=objective), layer) for objective in OBJECTIVES}
    for objective in OBJECTIVES:
        scores = {other: score(CHIP, layer, found, objective) for other, found in plans.items()}
        assert scores[objective] == min(scores.values())
    ratio = score(CHIP, layer, plans["energy"], "latency") / score(CHIP, layer, plans["edp"], "latency")
    assert 1.4 <= ratio <= 1.6


# rules and messages -------------------------------------------------------------------------------------------------
BROKEN = (
    ("conv1", {"strip_rows": 56}, "strip_rows within the output rows: got 56, limit 55"),
    ("conv1", {"filter_sets": 3}, "channel_sets * filter_sets within the PE sets that fit: got 3, limit 2"),
    ("conv1", {"interleaved_filters": 24}, "interleaved_filters * interleaved_channels * S within spad_filter_words: "
     "got 264, limit 224; interleaved_filters at most 20"),
    ("conv5", {"interleaved_channels": 5}, "interleaved_channels * S within spad_ifmap_words: got 15, limit 12; "
     "interleaved_channels at most 4"),
    ("conv4", {"interleaved_filters": 32, "interleaved_channels": 2},
     "interleaved_filters within spad_psum_words: got 32, limit 24"),
    ("conv4", {"resident_filters": 96},
     "banks of ifmap (3) and psum (32) within global_buffer_banks: got 35, limit 25; "
     "resident_filters at most 66"),
    ("conv4", {"resident_filters": 40}, "resident_filters a multiple of interleaved_filters * filter_sets: got 40, "
     "limit 32; nearest: 32 or 64"),
    ("conv4", {"pass_ifmaps": 3}, "pass_ifmaps divides the batch: got 3, limit 4; nearest divisor: 2"),
    ("conv1", {"channel_sets": 4, "filter_sets": 1},
     "interleaved_channels * channel_sets within the channels of a group: got 4, limit 3"),
    ("conv1", {"filter_sets": 7}, "interleaved_filters * filter_sets within the filters of a group: got 112, limit 96"),
    ("conv4", {"resident_filters": 224}, "resident_filters within the filters of a group: got 224, limit 192"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), BROKEN)
def test_an_illegal_plan_names_the_violated_rule(name, change, message):
    eyeriss, plan = alexnet_plan(name)
    with pytest.raises(MappingError) as caught:
        check_plan(eyeriss.config, ALEXNET[name], replace(plan, **change))
    assert str(caught.value).startswith(f"layer '{name}': {message}")


def test_the_advice_is_the_edge_of_what_is_legal():
    _, plan = alexnet_plan("conv1")
    at_edge = replace(plan, interleaved_filters=20, resident_filters=80)
    narrow = machine(filter_buffer_bytes=2 * 40 * 121)
    check_plan(narrow.config, ALEXNET["conv1"], at_edge)
    with pytest.raises(MappingError, match=r"filter_buffer_bytes: got 9680, limit 9679; .* at most 39"):
        check_plan(machine(filter_buffer_bytes=2 * 40 * 121 - 1).config, ALEXNET["conv1"], at_edge)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (conv("x", 30, 3, 4, 13, S=3), "native_filter_height: got 13, limit 12"),
        (conv("x", 30, 3, 4, 3, S=13), "filter columns within spad_ifmap_words: got 13, limit 12"),
        (conv("x", 30, 3, 4, 7, dilation=(1, 2)), "filter columns within spad_ifmap_words: got 13, limit 12"),
        (conv("x", 30, 3, 4, 3, S=33, W=60), "native_filter_width: got 33, limit 32"),
        (conv("x", 30, 3, 4, 3, stride=(3, 3)), "native_vertical_strides: got 3, allowed 1, 2, 4; nearest 2"),
        (conv("x", 30, 3, 4, 3, stride=(1, 13)), "native_horizontal_stride: got 13, limit 12"),
    ],
)  # fmt: skip
def test_a_layer_beyond_the_machine_is_refused(layer, message):
    with pytest.raises(MappingError, match="layer 'x'") as caught:
        mapped(CHIP, layer)
    assert message in str(caught.value)


def test_a_map_too_wide_for_the_buffer_says_so():
    with pytest.raises(
        MappingError, match=r"banks of ifmap \(\d+\) and psum \(\d+\) within global_buffer_banks: got \d+, limit 25"
    ):
        mapped(CHIP, conv("wide", 9, 1, 1, 9, W=60000, S=1))


def test_an_unknown_plan_gets_a_near_name():
    with pytest.raises(MappingError, match="unknown plan 'alexnet-conv33'; did you mean 'alexnet-conv3'"):
        mapped(machine(plans={"conv3": "alexnet-conv33"}), ALEXNET["conv3"])


def test_explicit_fields_bypass_the_search():
    fields = {**shipped_plans()["alexnet-conv5"].model_dump(), "resident_filters": 32}
    plan = mapped(machine(plans={"conv5": fields}), ALEXNET["conv5"])
    assert plan.resident_filters == 32


# calls, Linear, compression, placement --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("channels", "filters", "calls"),
    [(1024, 1024, (1, 1)), (1025, 1025, (2, 2)), (512, 4096, (4, 1)), (2500, 10, (1, 3))],
)
def test_large_layers_are_cut_into_calls(channels, filters, calls):
    plan = mapped(CHIP, conv("large", 3, channels, filters, 1))
    assert (plan.filter_calls, plan.channel_calls) == calls
    assert plan.resident_filters <= -(-filters // calls[0])
    assert plan.pass_channels <= -(-channels // calls[1])


def test_linear_is_a_convolution_over_its_map():
    linear = Linear(name="fc6", inputs=("x",), output="y", N=2, C=9216, M=4096, map_shape=(256, 6, 6))
    shape = as_conv(linear)
    assert (shape.C, shape.H, shape.W, shape.R, shape.S, shape.P, shape.Q) == (256, 6, 6, 6, 6, 1, 1)
    assert shape.macs_dense == linear.macs_dense
    assert mapped(CHIP, linear).filter_calls == 4
    flat = as_conv(replace(linear, C=256 * 13 * 13, map_shape=(256, 13, 13)))
    assert (flat.C, flat.R, flat.S, flat.H) == (256 * 169, 1, 1, 1)


def test_only_the_networks_input_is_not_compressed():
    assert not mapped(CHIP, LAYERS[0], reads_network_input=True).compress_ifmap
    assert mapped(CHIP, LAYERS[0]).compress_ifmap


def chain(*sizes):
    layers = [conv(f"l{i}", size, 64, 64, 3, pad=PAD1) for i, size in enumerate(sizes)]
    return [replace(layer, inputs=(f"x{i}",), output=f"x{i + 1}") for i, layer in enumerate(layers)]


def test_the_large_buffer_keeps_maps_of_neighbours_on_chip():
    layers = chain(64, 64, 100, 32, 32)  # 64 maps of 100 x 100 words do not fit twice into 1.25 MB, 64 x 64 do
    placed = machine("thesis-256pe").place(layers)
    assert [sorted(placed[layer.name].chip) for layer in layers] == [["ofmap"], ["ifmap"], [], ["ofmap"], ["ifmap"]]
    for layer in layers:
        mapped(machine("thesis-256pe"), layer, placed[layer.name].chip)


def test_the_chip_and_never_keep_nothing():
    for eyeriss in (CHIP, machine("npu-1ghz"), machine("thesis-256pe", keep_on_chip="never")):
        assert not any(place.chip for place in eyeriss.place(chain(16, 16)).values())


def test_maps_that_stay_take_their_room_in_the_buffer():
    layer, big = conv("l", 64, 64, 64, 3, pad=PAD1), machine("thesis-256pe").config
    plan = mapped(machine("thesis-256pe"), layer, ("ifmap", "ofmap"))
    assert ifmap_buffer_bytes(layer, plan) == 2 * 64 * 66 * 66
    assert psum_buffer_bytes(layer, plan) == 2 * 64 * 64 * 64
    tight = machine("thesis-256pe", global_buffer_banks=buffer_banks(big, layer, plan) - 1)
    with pytest.raises(MappingError, match="banks of ifmap"):
        mapped(tight, layer, ("ifmap", "ofmap"))


# E16: explicit plans on other networks ------------------------------------------------------------------------------
OTHERS = (
    (conv("vgg conv1_1", 224, 3, 64, 3, 1, pad=PAD1), (14, 8, 1, 4, 1, 1, 2), None),
    (conv("vgg conv1_2", 224, 64, 64, 3, 1, pad=PAD1), (4, 16, 1, 16, 3, 4, 1), None),
    (conv("vgg conv5", 14, 512, 512, 3, 1, pad=PAD1), (14, 128, 1, 16, 4, 2, 2), None),
    (conv("pointwise 1024", 14, 1024, 256, 1, 1), (14, 64, 1, 16, 12, 6, 2), None),
    (conv("one channel a pass", 28, 32, 32, 5, 1, pad=PAD2), (14, 32, 1, 16, 1, 1, 2), None),
    (conv("tallest filter", 64, 8, 16, 12, 1), (14, 16, 1, 16, 1, 1, 1), None),
    (conv("resnet stem", 224, 3, 64, 7, 1, stride=(2, 2), pad=(3, 3, 3, 3)), (14, 16, 1, 16, 1, 1, 1), None),
    (conv("depthwise", 112, 32, 32, 3, 1, pad=PAD1, groups=32), (14, 1, 1, 1, 1, 1, 1), None),
    (conv("too many sets", 28, 32, 32, 5, 1, pad=PAD2), (14, 32, 1, 16, 1, 3, 2), "PE sets that fit: got 6, limit 2"),
    (conv("too many banks", 224, 64, 64, 3, 1, pad=PAD1), (14, 64, 1, 16, 1, 1, 1), "global_buffer_banks"),
    (conv("wide set", 224, 64, 64, 3, 1, pad=PAD1), (57, 16, 1, 16, 1, 1, 1), "PE sets that fit: got 1, limit 0"),
)  # fmt: skip


@pytest.mark.parametrize(("layer", "numbers", "broken"), OTHERS, ids=lambda value: getattr(value, "name", None))
def test_explicit_plans_on_other_networks(layer, numbers, broken):
    eyeriss = machine(plans={layer.name: dict(zip(LETTERS.values(), numbers))})
    if broken:
        with pytest.raises(MappingError) as caught:
            mapped(eyeriss, layer)
        assert broken in str(caught.value)
    else:
        plan = mapped(eyeriss, layer)
        assert closed_form(eyeriss.config, layer, plan) * plan.active_pes(layer) >= layer.macs_dense
