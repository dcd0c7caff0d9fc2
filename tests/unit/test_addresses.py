"""Where tensors lie off chip: weights back to back, living maps apart, the same whatever is tried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.accelerators.addresses import ROW_BYTES, Use, first_fit, map_uses
from archsim.config import load_study
from archsim.session import Session
from archsim.workload.bench import Workbench

uses = st.lists(st.tuples(st.integers(1, 60_000), st.integers(0, 5)), min_size=1, max_size=25).map(
    lambda rooms: [Use(f"t{i}", n_bytes, i, i + lives) for i, (n_bytes, lives) in enumerate(rooms)]
)


@given(uses, st.integers(0, 5).map(lambda rows: rows * ROW_BYTES))
def test_living_maps_never_overlap(given_uses: list[Use], start: int) -> None:
    found = first_fit(given_uses, start)
    for one in given_uses:
        assert found[one.name] >= start and found[one.name] % ROW_BYTES == 0
        for other in given_uses:
            if one is not other and one.first <= other.last and other.first <= one.last:
                apart = found[one.name] + one.n_bytes <= found[other.name]
                assert apart or found[other.name] + other.n_bytes <= found[one.name]


def test_a_gap_is_used_again() -> None:
    """The first map is dead when the third comes to life, which takes its place."""
    found = first_fit([Use("a", 9000, 0, 1), Use("b", 100, 1, 2), Use("c", 16_000, 2, 3)], 0)
    assert found == {"a": 0, "b": 16_384, "c": 0}


@pytest.mark.parametrize("batch", [1, 4])
def test_the_table_of_a_network(batch: int) -> None:
    """Weights of all layers from 0 on in whole rows, maps behind them; what one layer writes the next one reads."""
    study = load_study("quickstart.yaml", [f"workload.batch={batch}", "workload.data.images=8"])
    session = Session(Workbench(study.workload, study.folder), study, study.assign)
    layers = [layer for layer in session.network.layers if layer.name in session.seating.addresses]
    end = 0
    for layer in layers:
        assert session.seating.addresses[layer.name]["weights"] == end
        end += -(-layer.weight_count * 2 // ROW_BYTES) * ROW_BYTES
    for layer in layers:
        assert min(session.seating.addresses[layer.name][region] for region in ("ifmap", "ofmap", "other")) >= end
        assert session.seating.addresses[layer.name]["other"] > session.seating.addresses[layer.name]["ofmap"]
    rooms = {use.name: use.n_bytes for use in map_uses(session.network, {}, 16)}
    assert rooms[layers[-1].output] == batch * 2 * _words(session.network.shapes[layers[-1].output])
    assert rooms[layers[1].inputs[0]] > batch * 2 * _words(session.network.shapes[layers[1].inputs[0]])  # padding


def _words(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
