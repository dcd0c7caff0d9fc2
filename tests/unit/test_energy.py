"""Price tables, accounting, scaling and export."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import archsim
from archsim.counts import Counts
from archsim.energy import Price, PriceTable, account, available_tables, load_prices, scaled
from archsim.energy.export import ert_text
from archsim.energy.pricefile import TABLES, TableFile, read_file
from archsim.errors import ArchsimError, AssetError, PricingError

MACHINE = """
actions:
  pe.mac: {class: mac, bits: 16}
  pe.mac_gated: {class: mac_gated, bits: 16}
  spad.ifmap_read: {class: register_file_ifmap, bits: 16}
  spad.filter_read: {class: register_file_filter, bits: 16}
  spad.psum_read: {class: register_file_psum, bits: 16}
  spad.psum_write: {class: register_file_psum, bits: 16}
  noc.psum_hop: {class: array, bits: 16}
  global_buffer.psum_read: {class: global_buffer_read, bits: 16}
  global_buffer.psum_write: {class: global_buffer_write, bits: 16}
  global_buffer.filter_read: {class: filter_buffer_read, bits: 16}
  array.active_cycle: {class: static, bits: 1}
"""
ACTIONS = frozenset(yaml.safe_load(MACHINE)["actions"])
TABLE = """name: own
about: a user's table
technology_nm: 65
voltage_mV: 1000
source: a chip
classes:
  mac: {energy_pJ: 2.0, per_bits: 16}
  leak: {power_mW: 30}
"""
ONE_MAC = "actions: {pe.mac: {class: mac, bits: 16}}\n"
SHIPPED = [name for name, _ in available_tables()]
MACHINE_FILES = sorted(Path(archsim.__file__).parent.glob("accelerators/*/energy.yaml"))
ALL = {action: spec["class"] for action, spec in yaml.safe_load(MACHINE)["actions"].items()}
SPECIAL = [name for name in SHIPPED if "mac" not in read_file(TableFile, TABLES / f"{name}.yaml")[0].classes]
"""Tables of something else than arrays of multipliers: they price none of the actions below."""
LACKS = {
    "neurospector": {"noc.psum_hop": "array"},
    "timeloop-eyeriss-like": {"noc.psum_hop": "array"},
    **dict.fromkeys(SPECIAL, ALL),
}

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into the current folder."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return put


@pytest.fixture
def machine(write: Write) -> Path:
    return write("energy.yaml", MACHINE)


def prices_pJ(table: PriceTable) -> dict[str, float]:
    return {action: price.energy_pJ for action, price in table.prices.items()}


class TestShippedTables:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_prices_what_it_can_and_names_what_it_cannot(self, name: str, machine: Path) -> None:
        lacks = LACKS.get(name, {})
        if lacks:
            with pytest.raises(PricingError) as caught:
                load_prices(machine, name, ACTIONS, 200)
            for action, price_class in lacks.items():
                assert f"{action} (class {price_class!r})" in str(caught.value)
            assert not [action for action in ACTIONS - lacks.keys() if action in str(caught.value)]
            assert f"table {name!r}" in str(caught.value)
            return
        table = load_prices(machine, name, ACTIONS, 200)
        assert set(table.prices) == ACTIONS
        assert all(price.source for price in table.prices.values())
        assert all(price.assumed for price in table.prices.values() if price.energy_pJ == 0)

    @pytest.mark.parametrize("name", SHIPPED)
    def test_file_name_is_the_table_name(self, name: str) -> None:
        assert read_file(TableFile, TABLES / f"{name}.yaml")[0].name == name

    @pytest.mark.parametrize(
        ("name", "pJ"),
        [  # mac, filter spad, psum hop, buffer read, filter preload read; one 16-bit word each
            ("isca16", (1, 1, 2, 6, 6)),
            ("thesis-t33", (3.2, 3.2, 6.4, 19.2, 19.2)),
            ("nnd-chip", (2, 1, 4, 15, 15)),
            ("tetris-l1", (2, 1, 4, 28, 28)),
            ("tetris-t16", (2, 0.6, 4, 14, 14)),
            ("accelergy-eyeriss-like", (2.20035, 0.82303, 0.2, 33.99577 / 4, 5.15898 / 4)),
        ],
    )
    def test_published_prices_of_a_16_bit_word(self, name: str, pJ: tuple[float, ...], machine: Path) -> None:
        table = prices_pJ(load_prices(machine, name, ACTIONS, 200))
        asked = ("pe.mac", "spad.filter_read", "noc.psum_hop", "global_buffer.psum_read", "global_buffer.filter_read")
        assert [table[action] for action in asked] == pytest.approx(pJ, rel=1e-12)

    def test_thesis_prices_the_prediction_unit_apart(self, write: Write) -> None:
        own = write("energy.yaml", "actions: {pe.mac: {class: mac_with_pau, bits: 16}}")
        assert prices_pJ(load_prices(own, "thesis-t33", {"pe.mac"}, 500)) == {"pe.mac": pytest.approx(4.8)}

    def test_reads_and_writes_may_differ(self, machine: Path) -> None:
        table = prices_pJ(load_prices(machine, "accelergy-eyeriss-like", ACTIONS, 200))
        assert table["global_buffer.psum_write"] > table["global_buffer.psum_read"]

    def test_static_price_per_cycle(self, machine: Path) -> None:
        chip = load_prices(machine, "nnd-chip", ACTIONS, 200).prices["array.active_cycle"]
        assert chip.energy_pJ == 150.0
        assert chip.unit == "30 mW at 200 MHz"
        assert prices_pJ(load_prices(machine, "nnd-chip", ACTIONS, 100))["array.active_cycle"] == 300.0
        assert prices_pJ(load_prices(machine, "tetris-l1", ACTIONS, 100))["array.active_cycle"] == 320.0

    @pytest.mark.parametrize("name", sorted(set(SHIPPED) - LACKS.keys()))
    def test_a_gated_mac_is_cheaper(self, name: str, machine: Path) -> None:
        ungated, gated = (account(counts, load_prices(machine, name, ACTIONS, 200)) for counts in mac_cycle())
        assert sum(gated.values()) < sum(ungated.values())

    def test_a_gated_mac_saves_what_the_chip_saves(self, machine: Path) -> None:
        ungated, gated = (account(counts, load_prices(machine, "nnd-chip", ACTIONS, 200)) for counts in mac_cycle())
        assert sum(ungated.values()) == 6.0
        assert 0.40 <= 1 - sum(gated.values()) / sum(ungated.values()) <= 0.50


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("own", MACHINE_FILES, ids=lambda path: path.parent.name)
def test_every_machine_with_every_table(own: Path, name: str) -> None:
    machine = yaml.safe_load(own.read_text(encoding="utf-8"))
    classes = yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8"))["classes"].keys()
    classes |= machine.get("classes", {}).keys()
    lacks = {action for action, spec in machine["actions"].items() if spec["class"] not in classes}
    if own.parent.name == "eyeriss" and name not in LACKS:
        assert not lacks
    if lacks:
        with pytest.raises(PricingError) as caught:
            load_prices(own, name, machine["actions"], 200)
        assert set(re.findall(r"([\w.@]+) \(class", str(caught.value))) == lacks
    else:
        assert load_prices(own, name, machine["actions"], 200).prices.keys() == machine["actions"].keys()


def mac_cycle() -> tuple[Counts, Counts]:
    """One PE cycle with and without its MAC: gating saves the MAC and the filter read."""
    spads = {"spad.ifmap_read": 1, "spad.psum_read": 1, "spad.psum_write": 1}
    return Counts({"pe.mac": 1, "spad.filter_read": 1, **spads}), Counts({"pe.mac_gated": 1, **spads})


class TestOwnTables:
    def test_a_file_beside_the_user(self, write: Write) -> None:
        write("own.yaml", TABLE)
        table = load_prices(write("energy.yaml", ONE_MAC), "own.yaml", {"pe.mac"}, 200)
        expected = Price("pe.mac", 2.0, "mac", "2 pJ per 16 bit x 16 bit", 65, 1000, "a chip")
        assert table == PriceTable("own", {"pe.mac": expected}, 65, 1000, "a chip")
        assert pickle.loads(pickle.dumps(table)) == table
        with pytest.raises(dataclasses.FrozenInstanceError):
            table.name = "other"  # type: ignore[misc]

    def test_unknown_names(self, write: Write) -> None:
        own = write("energy.yaml", ONE_MAC)
        with pytest.raises(PricingError, match=r"unknown price table 'nnd_chip'.*did you mean 'nnd-chip'\?"):
            load_prices(own, "nnd_chip", {"pe.mac"}, 200)
        with pytest.raises(AssetError, match=r"file not found: nowhere\.yaml"):
            load_prices(own, "nowhere.yaml", {"pe.mac"}, 200)

    def test_the_machine_adds_classes_and_the_table_goes_first(self, write: Write) -> None:
        write("own.yaml", TABLE)
        own = write(
            "energy.yaml",
            "classes:\n"
            "  mac: {energy_pJ: 99, source: never used}\n"
            "  clock: {power_mW: 100, calibrated: five layers of AlexNet, source: fit}\n"
            "actions:\n  pe.mac: {class: mac, bits: 16}\n  array.active_cycle: {class: clock}\n",
        )
        table = load_prices(own, "own.yaml", {"pe.mac", "array.active_cycle"}, 200)
        assert prices_pJ(table) == {"pe.mac": 2.0, "array.active_cycle": 500.0}
        clock = table.prices["array.active_cycle"]
        assert (clock.calibrated, clock.source, clock.technology_nm) == ("five layers of AlexNet", "fit", None)

    def test_same_as_keeps_the_flags_of_the_way(self, write: Write) -> None:
        guess = "  guess: {same_as: mac, assumed: true, source: like a MAC}\n"
        write("own.yaml", TABLE + guess + "  wilder: {same_as: guess}\n")
        own = write("energy.yaml", "actions: {alu.op: {class: wilder, bits: 8}}")
        price = load_prices(own, "own.yaml", {"alu.op"}, 200).prices["alu.op"]
        assert (price.energy_pJ, price.assumed) == (1.0, True)
        assert (price.price_class, price.source) == ("wilder = guess = mac", "like a MAC; a chip")

    def test_relative_prices_follow_the_unit(self, write: Write) -> None:
        text = (TABLES / "isca16.yaml").read_text(encoding="utf-8")
        write("own.yaml", text.replace("unit_energy_pJ: 1.0", "unit_energy_pJ: 2.5"))
        price = load_prices(write("energy.yaml", ONE_MAC), "isca16", {"pe.mac"}, 200).prices["pe.mac"]
        scaled_price = load_prices(write("energy.yaml", ONE_MAC), "own.yaml", {"pe.mac"}, 200).prices["pe.mac"]
        assert (price.energy_pJ, scaled_price.energy_pJ) == (1.0, 2.5)
        assert price.assumed
        assert scaled_price.unit == "1 x 2.5 pJ per 16 bit x 16 bit"


BROKEN_TABLES = [
    ("clases: {}", r"own\.yaml:9: unknown field 'clases'; did you mean 'classes'\?"),
    ("  x: {energy_pj: 1}", r"own\.yaml:9: classes\.x: unknown field 'energy_pj'; did you mean 'energy_pJ'\?"),
    ("  x: {energy_pJ: -1}", r"own\.yaml:9: classes\.x\.energy_pJ: must be greater than or equal to 0, got -1"),
    ("  x: {energy_pJ: .nan}", r"own\.yaml:9: classes\.x\.energy_pJ: must be a finite number"),
    ("  x: {energy_pJ: '1'}", r"own\.yaml:9: classes\.x\.energy_pJ: must be a valid number, got '1'"),
    ("  x: {source: y}", r"own\.yaml:9: classes\.x: must be priced by exactly one of energy_pJ, energy_pJ_per_bit"),
    ("  x: {energy_pJ: 1, power_mW: 1}", r"own\.yaml:9: classes\.x: must be priced by exactly one of"),
    ("  x: {power_mW: 1, per_bits: 16}", r"own\.yaml:9: classes\.x: must be priced by energy_pJ or relative if"),
    ("  mac: {energy_pJ: 1}", r"own\.yaml:9: classes\.mac: key given twice \(first in line 7\)"),
    ("  x: {energy_pJ: 1", r"own\.yaml:10: not valid YAML"),
]
BROKEN_CLASSES = [
    ("x: {same_as: mca}", r"own\.yaml:9: classes\.x: same_as names an unknown class; did you mean 'mac'\?"),
    ("x: {same_as: y}\n  y: {same_as: x}", r"own\.yaml:10: classes\.y: same_as goes round in a circle: x -> y -> x"),
    ("x: {relative: 2}", r"own\.yaml:9: classes\.x: a relative price needs unit_energy_pJ in table 'own'"),
]


def complaint(own: Path, clock_MHz: float = 200, actions: frozenset[str] = frozenset({"pe.mac"})) -> str:
    with pytest.raises(ArchsimError) as caught:
        load_prices(own, "own.yaml", actions, clock_MHz)
    assert isinstance(caught.value, PricingError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestBrokenFiles:
    @pytest.mark.parametrize(("line", "message"), BROKEN_TABLES)
    def test_table(self, line: str, message: str, write: Write) -> None:
        write("own.yaml", TABLE + line + "\n")
        assert re.match(message, complaint(write("energy.yaml", ONE_MAC)))

    @pytest.mark.parametrize(("entry", "message"), BROKEN_CLASSES)
    def test_class_that_cannot_be_resolved(self, entry: str, message: str, write: Write) -> None:
        write("own.yaml", TABLE + f"  {entry}\n")
        assert re.match(message, complaint(write("energy.yaml", "actions: {pe.mac: {class: x, bits: 16}}")))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("actions: {pe.mca: {class: mac, bits: 16}}", r"energy\.yaml:1: actions\.pe\.mca: not an action of this"),
            (
                "actions: {pe.mac: {clas: mac}}",
                r"energy\.yaml:1: actions\.pe\.mac: unknown field 'clas'; did you mean 'class'",
            ),
            (
                "actions: {pe.mac: {class: mac}}",
                r"own\.yaml:7: classes\.mac: priced by bits, so .* must state its bits",
            ),
            (
                "actions: {pe.mac: {class: x}}\nclasses: {x: {energy_pJ: 1}}",
                r"energy\.yaml:2: .*a price needs a source",
            ),
        ],
    )
    def test_machine(self, text: str, message: str, write: Write) -> None:
        write("own.yaml", TABLE)
        assert re.match(message, complaint(write("energy.yaml", text)))

    def test_every_action_without_a_class_is_named(self, write: Write) -> None:
        write("own.yaml", TABLE)
        text = complaint(write("energy.yaml", ONE_MAC), actions=frozenset({"pe.mac", "pe.add", "noc.hop"}))
        assert "noc.hop (no class for it in energy.yaml); pe.add (no class for it in energy.yaml)" in text

    def test_power_needs_a_clock(self, write: Write) -> None:
        write("own.yaml", TABLE)
        own = write("energy.yaml", "actions: {pe.mac: {class: leak}}")
        assert re.match(r"own\.yaml:8: classes\.leak: power_mW needs a clock above 0 MHz, got 0", complaint(own, 0))


def table_of(name: str = "t", **pJ: float) -> PriceTable:
    """Return a table with one component `pe`."""
    prices = {f"pe.{action}": Price(f"pe.{action}", value, "mac", "", 65, None, "s") for action, value in pJ.items()}
    return PriceTable(name, prices, 65, None, "s")


class TestAccount:
    def test_counts_times_prices_in_a_fixed_order(self) -> None:
        energy = account(Counts({"pe.b": 3, "pe.a": 10**12}), table_of(a=0.1, b=7.0))
        assert list(energy.items()) == [("pe.a", 0.1 * 10**12), ("pe.b", 21.0)]

    def test_an_action_without_a_price_is_an_error(self) -> None:
        with pytest.raises(PricingError, match=r"no price for pe\.mca in 't'; did you mean 'pe\.mac'\?"):
            account({"pe.mac": 1, "pe.mca": 0}, table_of(mac=1.0))

    def test_several_tables(self) -> None:
        link = PriceTable(
            "link", {"link.read_bit": Price("link.read_bit", 15.0, "", "", None, None, "s")}, None, None, ""
        )
        assert account({"pe.a": 2, "link.read_bit": 4}, (table_of(a=1.5), link)) == {"link.read_bit": 60.0, "pe.a": 3.0}
        with pytest.raises(PricingError, match=r"no price for pe\.x in 't', 'link'"):
            account({"pe.x": 2}, (table_of(a=1.5), link))
        with pytest.raises(PricingError, match=r"pe\.a priced twice, the second time in 'u'"):
            account({}, (table_of(a=1.0), table_of("u", a=1.0)))

    @given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**15)), st.integers(1, 1000))
    def test_linear_and_rounded_once(self, counts: dict[str, int], times: int) -> None:
        table = table_of(a=0.1, b=3.7, c=0.0)
        energy = account({f"pe.{key}": n * times for key, n in counts.items()}, table)
        for key, n in counts.items():
            exact = Fraction(n * times) * Fraction(table.prices[f"pe.{key}"].energy_pJ)
            assert energy[f"pe.{key}"] == pytest.approx(float(exact), rel=2**-52)
        assert math.fsum(energy.values()) >= 0


class TestPower:
    def test_added_to_what_the_cycle_costs(self, machine: Path) -> None:
        table = load_prices(machine, "nnd-chip", ACTIONS, 200)
        more = table.with_power("array.active_cycle", 100, 200, "fit", calibrated="five layers")
        price = more.prices["array.active_cycle"]
        assert price.energy_pJ == 650.0
        assert price.unit == "30 mW at 200 MHz + 100 mW at 200 MHz"
        assert (price.calibrated, price.source) == ("five layers", f"{table.source}; fit")
        assert table.prices["array.active_cycle"].energy_pJ == 150.0
        assert {a: p for a, p in more.prices.items() if a != price.action}.items() <= table.prices.items()

    def test_a_new_action(self) -> None:
        price = table_of(a=1.0).with_power("pe.clock", 2, 500, "fit", assumed=True).prices["pe.clock"]
        assert (price.energy_pJ, price.assumed, price.source) == (4.0, True, "fit")


class TestScaling:
    def test_only_when_asked_for(self, machine: Path) -> None:
        table = load_prices(machine, "nnd-chip", ACTIONS, 200)
        assert table.scaled_from_nm is None
        assert "scaled" not in table.source

    def test_linear_and_said(self, machine: Path) -> None:
        table = load_prices(machine, "nnd-chip", ACTIONS, 200)
        at_45 = scaled(table, 45)
        assert (at_45.technology_nm, at_45.scaled_from_nm) == (45, 65)
        for action, price in at_45.prices.items():
            assert price.energy_pJ == pytest.approx(table.prices[action].energy_pJ * 45 / 65, rel=1e-15)
            assert price.technology_nm == 45
            assert "scaled linearly from 65 nm to 45 nm" in price.source
        assert "scaled linearly from 65 nm to 45 nm" in at_45.source

    def test_a_price_of_another_node_scales_from_its_own(self) -> None:
        table = table_of(a=65.0, b=40.0)
        mixed = dataclasses.replace(
            table, prices={**table.prices, "pe.b": dataclasses.replace(table.prices["pe.b"], technology_nm=40)}
        )
        assert prices_pJ(scaled(mixed, 20)) == {"pe.a": 20.0, "pe.b": 20.0}

    def test_needs_a_stated_node(self) -> None:
        with pytest.raises(PricingError, match=r"'t' cannot be scaled: its technology is not stated: pe\.clock"):
            scaled(table_of(a=1.0).with_power("pe.clock", 1, 100, "fit"), 45)
        with pytest.raises(PricingError, match="technology is not stated"):
            scaled(dataclasses.replace(table_of(a=1.0), technology_nm=None), 45)
        with pytest.raises(PricingError, match="technology_nm must be above 0, got 0"):
            scaled(table_of(a=1.0), 0)


def test_energy_reference_table_of_accelergy(machine: Path) -> None:
    table = load_prices(machine, "accelergy-eyeriss-like", ACTIONS, 200)
    text = ert_text(table)
    assert text.startswith("# accelergy-eyeriss-like: Accelergy-Project")
    ert = yaml.safe_load(text)["ERT"]
    rows = {f"{t['name']}.{a['name']}": a for t in ert["tables"] for a in t["actions"]}
    assert ert["version"] == 0.3
    assert [t["name"] for t in ert["tables"]] == ["array", "global_buffer", "noc", "pe", "spad"]
    assert {action: row["energy"] for action, row in rows.items()} == prices_pJ(table)
    assert all(row["arguments"] is None for row in rows.values())
