"""Price tables: what one action costs, and where the number comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from archsim.counts import Action
from archsim.energy.pricefile import ActionClass, MachineFile, PriceClass, TableFile, read_file, table_path
from archsim.errors import PricingError, did_you_mean
from archsim.units import power_mW_to_pJ_per_cycle
from archsim.yamlfile import YamlFile


@dataclass(frozen=True)
class Price:
    """The energy of one action; `unit` says how it was worked out, `calibrated` on what it was fitted ('' = not)."""

    action: Action
    energy_pJ: float
    price_class: str
    unit: str
    technology_nm: int | None
    voltage_mV: int | None
    source: str
    assumed: bool = False
    calibrated: str = ""
    unverified: bool = False


@dataclass(frozen=True)
class PriceTable:
    """Prices of the actions of one machine or memory; `scaled_from_nm` is None unless scaling was asked for."""

    name: str
    prices: Mapping[Action, Price]
    technology_nm: int | None
    voltage_mV: int | None
    source: str
    scaled_from_nm: int | None = None

    def with_power(
        self,
        action: Action,
        power_mW: float,
        clock_MHz: float,
        source: str,
        calibrated: str = "",
        assumed: bool = False,
    ) -> PriceTable:
        """Return the table with `power_mW` charged per cycle of `action`, on top of what the action costs already."""
        added = _power_price(action, power_mW, clock_MHz, source, calibrated, assumed)
        before = self.prices.get(action)
        return replace(self, prices={**self.prices, action: _sum(before, added) if before else added})


def _power_price(
    action: Action, power_mW: float, clock_MHz: float, source: str, calibrated: str, assumed: bool
) -> Price:
    """Return the price of one cycle at a constant power."""
    return Price(
        action=action,
        energy_pJ=power_mW_to_pJ_per_cycle(power_mW, clock_MHz),
        price_class="power",
        unit=_power_unit(power_mW, clock_MHz),
        technology_nm=None,
        voltage_mV=None,
        source=source,
        assumed=assumed,
        calibrated=calibrated,
    )


def _sum(before: Price, added: Price) -> Price:
    """Return the price of both; node and voltage stay those of the table's price."""
    return replace(
        before,
        energy_pJ=before.energy_pJ + added.energy_pJ,
        price_class=f"{before.price_class} + {added.price_class}",
        unit=f"{before.unit} + {added.unit}",
        source=f"{before.source}; {added.source}",
        assumed=before.assumed or added.assumed,
        calibrated="; ".join(text for text in (before.calibrated, added.calibrated) if text),
    )


def _power_unit(power_mW: float, clock_MHz: float) -> str:
    """Return how a power becomes the price of a cycle."""
    return f"{power_mW:g} mW at {clock_MHz:g} MHz"


def load_prices(
    own: Path,
    table: str,
    actions: Iterable[Action],
    clock_MHz: float,
    beside: Path | None = None,
    aliases: Mapping[str, str] | None = None,
) -> PriceTable:
    """Return the price of each of `actions`: class and bits from the machine's file `own`, price from `table`.

    `table` is a shipped name or a YAML file, looked for in the folder `beside` first; `clock_MHz` turns powers into
    energy per cycle. `aliases` names the class that stands for a class of the machine's file. Nothing is scaled.
    Raises: PricingError naming every action without a price, the table and the class looked for, or a broken rule of
    a file with its line; AssetError if the YAML file is not found.
    """
    machine, machine_lines = _machine_file(own, aliases or {})
    found, table_lines = read_file(TableFile, table_path(table, beside))
    wanted = sorted(set(actions))
    for action in machine.actions:
        if action not in wanted:
            rule = f"not an action of this machine{did_you_mean(action, wanted)}"
            raise PricingError(str(machine_lines.error(("actions", action), rule)))
    book = _Book(found, table_lines, machine, machine_lines, clock_MHz)
    missing = [problem for problem in (_problem(book, action) for action in wanted) if problem]
    if missing:
        has = ", ".join(sorted(book.names))
        raise PricingError(f"table {found.name!r} gives no price for {'; '.join(missing)} (its classes: {has})")
    prices = {action: book.price(action, machine.actions[action]) for action in wanted}
    return PriceTable(found.name, prices, found.technology_nm, found.voltage_mV, found.source)


def _machine_file(own: Path, aliases: Mapping[str, str]) -> tuple[MachineFile, YamlFile]:
    """Return a machine's file and its lines, some price classes replaced."""
    machine, lines = read_file(MachineFile, own)
    actions = {
        name: one.model_copy(update={"price_class": aliases.get(one.price_class, one.price_class)})
        for name, one in machine.actions.items()
    }
    return machine.model_copy(update={"actions": actions}), lines


def _problem(book: _Book, action: Action) -> str:
    """Return why `action` has no price, or ''."""
    spec = book.machine.actions.get(action)
    if spec is None:
        return f"{action} (no class for it in {book.machine_lines.file})"
    if book.entry(spec.price_class) is None:
        return f"{action} (class {spec.price_class!r})"
    return ""


@dataclass(frozen=True)
class _Book:
    """A table and a machine's file, looked up together: the table's classes first, then the machine's own."""

    table: TableFile
    table_lines: YamlFile
    machine: MachineFile
    machine_lines: YamlFile
    clock_MHz: float

    @property
    def names(self) -> set[str]:
        """Names of all classes."""
        return {*self.table.classes, *self.machine.classes}

    def entry(self, name: str) -> PriceClass | None:
        """Return the class called `name`."""
        return self.table.classes.get(name) or self.machine.classes.get(name)

    def error(self, name: str, rule: str) -> PricingError:
        """Return an error that points at the class called `name`."""
        lines = self.table_lines if name in self.table.classes else self.machine_lines
        return PricingError(str(lines.error(("classes", name), rule)))

    def chain(self, name: str) -> list[str]:
        """Return the names from `name` along `same_as` to the class that has a price."""
        names: list[str] = []
        target: str | None = name
        while target is not None:
            entry = self.entry(target)
            if entry is None:
                raise self.error(names[-1], f"same_as names an unknown class{did_you_mean(target, self.names)}")
            if target in names:
                raise self.error(names[-1], f"same_as goes round in a circle: {' -> '.join([*names, target])}")
            names.append(target)
            target = entry.same_as
        return names

    def price(self, action: Action, spec: ActionClass) -> Price:
        """Return the price of one action."""
        names = self.chain(spec.price_class)
        entries = [entry for entry in map(self.entry, names) if entry is not None]
        last = entries[-1]
        from_table = names[-1] in self.table.classes
        energy_pJ, unit = self._energy(names[-1], last, spec.bits)
        source = last.source or (self.table.source if from_table else "")
        assumed = any(entry.assumed for entry in entries) or (from_table and self.table.assumed)
        if not (source or assumed):
            raise self.error(names[-1], "a price needs a source, or assumed: true")
        return Price(
            action=action,
            energy_pJ=energy_pJ,
            price_class=" = ".join(names),
            unit=unit,
            technology_nm=last.technology_nm or (self.table.technology_nm if from_table else None),
            voltage_mV=last.voltage_mV or (self.table.voltage_mV if from_table else None),
            source="; ".join([*(entry.source for entry in entries[:-1] if entry.source), source or "assumed"]),
            assumed=assumed,
            calibrated=last.calibrated,
            unverified=any(entry.unverified for entry in entries),
        )

    def _energy(self, name: str, entry: PriceClass, bits: int | None) -> tuple[float, str]:
        """Return the energy of one action in pJ and how it was worked out."""
        if entry.power_mW is not None:
            if not self.clock_MHz > 0:
                raise self.error(name, f"power_mW needs a clock above 0 MHz, got {self.clock_MHz:g}")
            return power_mW_to_pJ_per_cycle(entry.power_mW, self.clock_MHz), _power_unit(entry.power_mW, self.clock_MHz)
        if entry.energy_pJ_per_bit is not None:
            return self._by_bits(name, entry.energy_pJ_per_bit, f"{entry.energy_pJ_per_bit:g} pJ/bit", 1, bits)
        if entry.relative is not None:
            unit_pJ = self.table.unit_energy_pJ
            if unit_pJ is None:
                raise self.error(name, f"a relative price needs unit_energy_pJ in table {self.table.name!r}")
            text = f"{entry.relative:g} x {unit_pJ:g} pJ"
            return self._by_bits(name, entry.relative * unit_pJ, text, entry.per_bits, bits)
        energy_pJ = entry.energy_pJ or 0.0
        return self._by_bits(name, energy_pJ, f"{energy_pJ:g} pJ", entry.per_bits, bits)

    def _by_bits(self, name: str, energy_pJ: float, text: str, per: int | None, bits: int | None) -> tuple[float, str]:
        """Return the energy of `bits` bits at `energy_pJ` per `per` bits; per None: of one action of any width."""
        if per is None:
            return energy_pJ, f"{text} per action"
        if bits is None:
            raise self.error(name, "priced by bits, so the machine's action must state its bits")
        return energy_pJ * bits / per, f"{text} x {bits} bit" if per == 1 else f"{text} per {per} bit x {bits} bit"
