"""Bit error rates of approximate DRAM follow from what its sources print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import StudyError
from archsim.memory.dram.profiles import (
    FLIKKER_T41_NJ,
    PROFILES,
    THESIS_T46_BEATS_PERCENT,
    VOLTRON_LINES,
    Level,
    ber_of_beats,
    ber_of_lines,
    profile_of,
    share_of_beats,
    share_of_values,
)

THESIS_BER = {1250: 1.645e-3, 1200: 6.708e-3, 1150: 7.950e-3, 1100: 1.0772e-2}
"""dram.md, section 6."""
VENDOR_C_BER = {1250: "1.2e-04", 1200: "5.8e-04", 1175: "8.8e-04", 1150: "1.06e-03", 1125: "1.23e-03", 1100: "1.35e-03"}
WIDTHS = range(4, 33)
RATES = st.floats(1e-12, 0.5)


def solved(share: float, n: int) -> float:
    """The BER at which 4.11 and 4.17 give this share of beats for values of n bits, found by halving."""
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if share_of_beats(share_of_values(middle, n), n) < share else (low, middle)
    return (low + high) / 2


def deviations() -> Iterator[float]:
    """How far the BER of every supply and width lies off the stated one (D10)."""
    for supply_mV, percent in THESIS_T46_BEATS_PERCENT.items():
        for n in WIDTHS:
            yield abs(solved(percent / 100, n) / THESIS_BER[supply_mV] - 1)


def rates(name: str) -> dict[int | None, float]:
    return {level.supply_mV: level.ber for level in PROFILES[name].levels}


# The law -------------------------------------------------------------------------------------------------------------
def test_table_4_6_gives_the_same_rate_for_values_of_any_width() -> None:
    found = list(deviations())
    assert len(found) == 4 * 29 and max(found) < 1e-4


@given(RATES, st.integers(1, 64), st.integers(1, 64))
def test_the_width_of_values_cancels(ber: float, n: int, m: int) -> None:
    shares = [share_of_beats(share_of_values(ber, width), width) for width in (n, m)]
    assert shares[0] == pytest.approx(shares[1], rel=1e-9) and shares[0] == pytest.approx(1 - (1 - ber) ** 64, abs=1e-9)


@given(st.floats(1e-15, 0.2))
def test_rates_of_shares_and_shares_of_rates(ber: float) -> None:
    assert ber_of_beats(share_of_values(ber, 64)) == pytest.approx(ber, rel=1e-6)
    eight_beats = share_of_values(share_of_values(ber / 100, 64), 8)
    assert ber_of_lines(eight_beats) == pytest.approx(ber / 100, rel=1e-6)
    assert ber < share_of_values(ber, 8) <= 8 * ber


def test_ends_of_the_law() -> None:
    for law in (ber_of_beats, ber_of_lines, lambda x: share_of_values(x, 7), lambda x: share_of_beats(x, 7)):
        assert law(0.0) == 0 and law(1.0) == 1


# Profiles ------------------------------------------------------------------------------------------------------------
def test_thesis() -> None:
    found = rates("thesis_t46")
    assert found.pop(1300) == 0 and found == pytest.approx(THESIS_BER, rel=1e-4)
    assert PROFILES["thesis_t46"].nominal_mV == 1500


def test_vendor_c_as_stated_to_its_digits() -> None:
    found = rates("voltron_C")
    assert found.pop(1300) == 0
    for supply_mV, told in VENDOR_C_BER.items():
        digits = len(told.partition("e")[0].partition(".")[2])
        assert f"{found[supply_mV]:.{digits}e}" == told
    thesis = rates("thesis_t46")
    assert all(6 <= thesis[mV] / found[mV] <= 14 for mV in (1250, 1200, 1150, 1100))


def test_vendors_a_and_b_err_below_their_free_savings_only() -> None:
    for name, lowest_mV in (("voltron_A", 1150), ("voltron_B", 1150), ("voltron_C", 1300)):
        free = [level.supply_mV for level in PROFILES[name].levels if not level.ber]
        assert free[0] == 1300 and free[-1] == lowest_mV
    assert rates("voltron_B")[1125] == pytest.approx(4e-9 / 512) and list(rates("voltron_B"))[-3:] == [1075, 1050, 1025]
    assert rates("voltron_A")[1100] == pytest.approx(0.292 / 512, rel=0.2)


def test_measurements_are_consistent() -> None:
    for rows in VOLTRON_LINES.values():
        for row in rows:
            assert 0 <= row.faulty <= row.tested and (row.faulty > 0) == (row.mean_percent > 0)
            assert row.max_percent is None or (row.median_percent or 0) < row.mean_percent < row.max_percent


@pytest.mark.parametrize("name", PROFILES)
def test_levels_grow_in_approximation(name: str) -> None:
    profile = PROFILES[name]
    assert profile.name == name and profile.source and profile.about and len({one.label for one in profile.levels}) > 2
    for before, level in zip(profile.levels, profile.levels[1:]):
        assert before.ber <= level.ber and level.refresh_energy <= before.refresh_energy
        assert (level.supply_mV or 0) <= (before.supply_mV or 0)
        assert level != before and (level.supply_mV, level.refresh_energy) != (before.supply_mV, before.refresh_energy)
    assert all(0 <= level.ber < 0.02 and 0 < level.refresh_energy <= 1 for level in profile.levels)
    assert all(profile.nominal_mV is None or (one.supply_mV or 0) <= profile.nominal_mV for one in profile.levels)


def test_retention() -> None:
    warm, cold, low = (PROFILES[f"retention_{name}"].levels for name in ("70C", "20C", "70C_1150mV"))
    for level in (*warm, *cold, *low):
        assert level.refresh_energy == 64 / (level.refresh_interval_ms or 0)
    assert {level.supply_mV for level in low} == {1150} and {level.supply_mV for level in warm} == {None}
    assert [level.ber == 0 for level in warm] == [True, False, False, False, False]
    ratios = [hot.ber / cool.ber for hot, cool in zip(warm[2:], cold[2:])]
    assert min(ratios) > 44 and max(ratios) < 69  # 44-68 times, from rounded figures
    assert all(1.13 < sagged.ber / level.ber < 1.34 for sagged, level in zip(low[1:], warm[1:]))


def test_flikker_saves_what_the_thesis_prints() -> None:
    savings = [100 * (1 - level.refresh_energy) for level in PROFILES["flikker_t41"].levels]
    assert savings == pytest.approx([9.1, 17.0, 22.8, 25.0], abs=0.05)
    assert [level.ber for level in PROFILES["flikker_t41"].levels] == list(FLIKKER_T41_NJ)[1:]


# Profiles of a study -------------------------------------------------------------------------------------------------
def test_rows_of_a_study_become_levels() -> None:
    rows: list[dict[str, Any]] = [
        {"ber": 0, "supply_mV": 1300},
        {"ber": 1e-6, "refresh_interval_ms": 1024, "label": "slow"},
        {"ber": 1e-6, "refresh_interval_ms": 1024, "refresh_energy": 0.5},
        {"ber": 1.0, "refresh_energy": 0.0},
        {"ber": 1.0, "tRP_ns": 16, "tRAS_ns": 40.5},
    ]
    assert profile_of(rows).levels == (
        Level("level 1", 0.0, 1300),
        Level("slow", 1e-6, None, 1024.0, 0.0625),
        Level("level 3", 1e-6, None, 1024.0, 0.5),
        Level("level 4", 1.0, None, None, 0.0),
        Level("level 5", 1.0, tRP_ns=16.0, tRAS_ns=40.5),
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], r"profile: must be a list of at least one level, got \[\]"),
        ("voltron", "profile: must be a list of at least one level, got 'voltron'"),
        ({"ber": 0.1}, "profile: must be a list of at least one level, got {'ber': 0.1}"),
        ([{"ber": 1.5}], "profile.0.ber: must be less than or equal to 1, got 1.5"),
        ([{"ber": 0.1}, {"ber": "a"}], "profile.1.ber: must be a valid number, got 'a'"),
        ([{"ber": float("nan")}], "profile.0.ber: must be"),
        ([{"supply_mV": 1200}], "profile.0: needs the field 'ber'"),
        ([{"ber": 0.1, "suply_mV": 1200}], "profile.0: unknown field 'suply_mV'; did you mean 'supply_mV'"),
        ([{"ber": 0.1, "supply_mV": 1.2}], "profile.0.supply_mV: must be a valid integer, got 1.2"),
        ([{"ber": 0.1, "supply_mV": -5}], "profile.0.supply_mV: must be greater than 0, got -5"),
        ([{"ber": 0.1, "refresh_interval_ms": 0}], "profile.0.refresh_interval_ms: must be greater than 0, got 0"),
        ([{"ber": 0.1, "refresh_energy": -1}], "profile.0.refresh_energy: must be greater than or equal to 0, got -1"),
        ([{"ber": 0, "tRCD_ns": 0}], "profile.0.tRCD_ns: must be greater than 0, got 0"),
        ([{"ber": 0, "tRP_ns": -13.75}], "profile.0.tRP_ns: must be greater than 0, got -13.75"),
        ([{"ber": 0}, {"ber": 0, "tRAS_ns": 1001}], "profile.1.tRAS_ns: must be less than or equal to 1000, got 1001"),
        ([{"ber": 0, "tRAS_ns": float("nan")}], "profile.0.tRAS_ns: must be"),
        ([{"ber": 0, "tRAS_ns": "40"}], "profile.0.tRAS_ns: must be a valid number, got '40'"),
        ([{"ber": 0, "tRCD_cycles": 12}], "profile.0: unknown field 'tRCD_cycles'; did you mean 'tRCD_ns'"),
        ([{"ber": 0, "tRC_ns": 60}], "profile.0: unknown field 'tRC_ns'"),
        ([3], "profile.0: must be a valid dictionary or instance of LevelRow, got 3"),
        ([{"ber": 0.1}, {"ber": 0.05}], "profile.1.ber: must be at least 0.1, that of the level before, got 0.05"),
        (
            [{"ber": 0.1, "supply_mV": 1200}, {"ber": 0.1, "supply_mV": 1250}],
            "profile.1.supply_mV: must be at most 1200, that of the level before, got 1250",
        ),
    ],
)
def test_bad_rows_are_refused(rows: Any, said: str) -> None:
    with pytest.raises(StudyError, match=f"^{said}"):
        profile_of(rows)
