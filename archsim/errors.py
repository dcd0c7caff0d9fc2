"""Errors a user can act on: every message names what was wrong, the value got and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchsimError(Exception):
    """Base of all errors archsim raises on purpose; the command line prints one line and exits with 2."""


class StudyError(ArchsimError):
    """A study file breaks a rule; the message starts with `file:line: field:`."""

    def __init__(self, message: str, *, file: str = "", line: int | None = None, field: str = "") -> None:
        self.file, self.line, self.field, self.rule = file, line, field, message
        place = file if line is None else f"{file}:{line}"
        super().__init__(": ".join(part for part in (place, field, message) if part))


class AssetError(ArchsimError):
    """A file a study names cannot be found or read."""


class WorkloadError(ArchsimError):
    """A network or data set cannot be used: unsupported operator, wrong shape, missing labels."""


class MappingError(ArchsimError):
    """No legal plan exists; the message names the violated constraint with both numbers."""


class AccumulatorOverflowError(ArchsimError):
    """A partial sum left the modelled accumulator; the message names layer, image and width.

    `image` counts within the images computed at once; None if it is the parameters that do not fit.
    """

    def __init__(self, layer: str, reason: str, image: int | None = None) -> None:
        self.layer, self.reason, self.image = layer, reason, image
        where = "" if image is None else f", image {image}"
        super().__init__(f"layer {layer!r}{where}: {reason}")

    def shifted(self, first: int) -> AccumulatorOverflowError:
        """Return the error of a block that starts at image `first` of the study."""
        return AccumulatorOverflowError(self.layer, self.reason, None if self.image is None else self.image + first)


class PricingError(ArchsimError):
    """A counted action has no price, or a price table is not usable."""


class CosimError(ArchsimError):
    """A Verilog block cannot be built, or its simulation ended without a verdict."""


class OutputError(ArchsimError):
    """The output folder cannot be written."""


class MissingExtraError(ArchsimError):
    """An optional dependency is not installed; the message gives the one line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'archsim[{extra}]'")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean 'x'? (allowed: a, b)` for an unknown name, without the question if nothing is near."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (allowed: {', '.join(names) or 'none'})"
