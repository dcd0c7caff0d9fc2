"""The two YAML files prices are read from: a table (class -> price) and a machine's `energy.yaml` (action -> class)."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field, model_validator

from archsim import assets
from archsim.counts import Action
from archsim.errors import PricingError, StudyError, did_you_mean
from archsim.yamlfile import Written, YamlFile, read_yaml, validate

TABLES = Path(__file__).with_name("tables")
KINDS = ("energy_pJ", "energy_pJ_per_bit", "relative", "power_mW", "same_as")
F = TypeVar("F", bound=Written)


class PriceClass(Written):
    """One price of a table.

    `energy_pJ` and `relative` hold for `per_bits` bits, or for one action whatever its width if that is left out;
    `relative` is a multiple of the table's `unit_energy_pJ`; `power_mW` is charged per active cycle.
    """

    energy_pJ: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    energy_pJ_per_bit: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    relative: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    power_mW: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    same_as: str | None = None
    per_bits: int | None = Field(default=None, gt=0)
    source: str = ""
    technology_nm: int | None = Field(default=None, gt=0)
    voltage_mV: int | None = Field(default=None, gt=0)
    assumed: bool = False
    calibrated: str = ""
    unverified: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> PriceClass:
        """Refuse none or several kinds of price, and a width where none applies."""
        if len([kind for kind in KINDS if getattr(self, kind) is not None]) != 1:
            raise ValueError(f"priced by exactly one of {', '.join(KINDS)}")
        if self.per_bits is not None and self.energy_pJ is None and self.relative is None:
            raise ValueError("priced by energy_pJ or relative if it has per_bits")
        return self


class TableFile(Written):
    """A price table; `technology_nm` and `voltage_mV` are null where the source does not state them.

    `source` holds for every class without its own; `assumed: true` marks every price of the table.
    """

    name: str = Field(min_length=1)
    about: str
    technology_nm: int | None = Field(gt=0)
    voltage_mV: int | None = Field(gt=0)
    source: str = Field(min_length=1)
    unit_energy_pJ: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    assumed: bool = False
    classes: dict[str, PriceClass] = Field(min_length=1)


class ActionClass(Written):
    """Which class prices an action, and how many bits one action moves or computes with."""

    price_class: str = Field(alias="class")
    bits: int | None = Field(default=None, gt=0)


class MachineFile(Written):
    """A machine's `energy.yaml`; its `classes` are used where the chosen table has no class of that name."""

    classes: dict[str, PriceClass] = Field(default_factory=dict)
    actions: dict[Action, ActionClass] = Field(min_length=1)


def read_file(model: type[F], path: Path) -> tuple[F, YamlFile]:
    """Return the validated file and its lines. Raises: PricingError `file:line: field: rule`."""
    try:
        source = read_yaml(path)
        return validate(model, source.data, source), source
    except StudyError as error:
        raise PricingError(str(error)) from None


def shipped_names() -> list[str]:
    """Return the names of the shipped tables, sorted."""
    return sorted(path.stem for path in TABLES.glob("*.yaml"))


def table_path(table: str, beside: Path | None = None) -> Path:
    """Return the file of a shipped table or, for a name that ends in .yaml or .yml, of the user's.

    Raises: PricingError with the nearest and the allowed names; AssetError for a file that is not found.
    """
    if table in shipped_names():
        return TABLES / f"{table}.yaml"
    if table.endswith((".yaml", ".yml")):
        return assets.find(table, beside)
    raise PricingError(f"unknown price table {table!r}, not a .yaml file either{did_you_mean(table, shipped_names())}")


def available_tables() -> list[tuple[str, str]]:
    """Return (name, about) of every shipped table."""
    return [(name, read_file(TableFile, TABLES / f"{name}.yaml")[0].about) for name in shipped_names()]
