"""Filters for an image kernel: the error rates its units may have, then vectors and hashes that stay below them.

One kind of unit after the other gets wrong outputs at a rate that starts at 0.1 and falls by ten until the mean PSNR is
acceptable; then all together, and while the picture is too bad the rate of the most frequent kind falls by ten, then of
the next, and so on around. A filter of n patterns, m bits and k hashes has false positives (1 - (1 - 1/m)^(k n))^k,
which must not exceed the rate; of those that do not, the one with the fewest address bits is taken. How many patterns
pay is measured, kind by kind. Source: V. Akhlaghi, UC San Diego 2020, sections 2.4.1 to 2.4.3, equation 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import log2
from typing import Any

from pydantic import Field

from archsim.approx import LayerSetting, Setting
from archsim.errors import StudyError
from archsim.threads import Progress
from archsim.tuner.method import Design
from archsim.tuner.problem import Likeness, Problem
from archsim.workload.layers import OpStream
from archsim.yamlfile import Written

SIZES = (64, 128, 256, 512, 1024, 2048)
HASHES = (1, 2, 3, 4, 5)
STEP = 10.0


class Options(Written):
    """Options of the method: the quality to keep, rates to begin and to give up with, numbers of patterns to try.

    `faults` and `match` are the knobs of the machine, `filters` is its Config field; `severities` are columns of the
    fault table by the name they are reported under.
    """

    min_psnr_dB: float = Field(default=25.0, gt=0, lt=100)
    start_rate: float = Field(default=0.1, gt=0, le=1)
    least_rate: float = Field(default=1e-7, gt=0, lt=1)
    patterns: list[int] = Field(default=[4, 8, 16, 32], min_length=1)
    severities: dict[str, dict[str, int]] = Field(default={"extreme": {"random": 0}, "random": {"random": 1}})
    faults: str
    match: str
    filters: str


def false_positives(n: int, m: int, k: int) -> float:
    """Return equation 2.1: the share of other keys a filter of n patterns takes for its own."""
    return float((1 - (1 - 1 / m) ** (k * n)) ** k)


def sized(n: int, rate: float) -> tuple[int, int]:
    """Return (m, k) of fewest address bits, then of the shorter vector. Raises: StudyError if none keeps the rate."""
    fit = [(k * log2(m), m, k) for m in SIZES for k in HASHES if false_positives(n, m, k) <= rate]
    if not fit:
        best = min(false_positives(n, m, k) for m in SIZES for k in HASHES)
        raise StudyError(f"no filter of up to {SIZES[-1]} bits keeps {n} patterns below {rate:g} (best {best:.2g})")
    _, m, k = min(fit)
    return m, k


def design(problem: Problem, unseen: Problem, options: Options, progress: Progress) -> tuple[list[Design], int]:
    """Return a design for every severity, and the evaluations of pictures it took. Raises: StudyError."""
    for kind in (one for one in options.patterns if one < 1):
        raise StudyError(f"patterns must be at least 1, got {kind}")
    search = Search(problem, unseen, options, progress)
    return [search.design(name) for name in options.severities], search.evaluations


@dataclass
class Search:
    """Rates and filters of one image kernel, chosen on `problem`; what a design does is told for `unseen`.

    A design sized by equation 2.1 may miss the bound, for stored outputs stand for real ones, too, and may cost energy:
    its row says both.
    """

    problem: Problem
    unseen: Problem
    options: Options
    progress: Progress
    evaluations: int = 0

    @property
    def layer(self) -> OpStream:
        """The kernel. Raises: StudyError for a network with other layers."""
        (layer, *others) = self.problem.bench.network.layers
        if others or not isinstance(layer, OpStream):
            raise StudyError(
                f"method error_rates designs filters of image kernels, not of {self.problem.bench.network.name}"
            )
        return layer

    def frequencies(self) -> dict[str, int]:
        """Return operations per pixel by kind of unit, the most frequent first, ties in order of appearance."""
        counts: dict[str, int] = {}
        for step in self.layer.steps:
            counts[step.op] = counts.get(step.op, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def design(self, severity: str) -> Design:
        """Find the rates of a severity, and filters for them."""
        rates, likeness = self.rates(severity)
        filters = self.filters(rates, severity)
        setting = {self.layer.name: LayerSetting({self.options.match: 1})}
        found = self.unseen.with_fields({self.options.filters: filters})
        told, share = found.likeness(setting), found.unit_energy(setting) / self.unseen.unit_energy({})
        row: dict[str, Any] = {
            "severity": severity,
            **{f"{kind}_rate": rate for kind, rate in rates.items()},
            **likeness.to_dict("faults"),
            **{f"{kind}_filter": "{patterns} in {m} x {k}".format(**one) for kind, one in filters.items()},
            **told.to_dict("filters"),
            "unit_energy_share": share,
            "meets_bound": told.mean_dB >= self.options.min_psnr_dB,
            "saves_energy": share < 1,
        }
        changes = {self.options.filters: filters}
        return Design(severity, row, changes, {self.layer.name: {self.options.match: 1}})

    # the rates (section 2.4.1) ---------------------------------------------------------------------------------------
    def rates(self, severity: str) -> tuple[dict[str, float], Likeness]:
        """Return the largest rates, decade by decade, that keep the quality all together."""
        kinds = list(self.frequencies())
        rates = {kind: self._alone(kind, severity) for kind in kinds}
        turn = 0
        likeness = self._judged(rates, severity)
        while likeness.mean_dB < self.options.min_psnr_dB:
            kind = kinds[turn % len(kinds)]
            rates[kind] = self._lower(rates[kind], kind)
            turn += 1
            likeness = self._judged(rates, severity)
        return rates, likeness

    def _alone(self, kind: str, severity: str) -> float:
        """Return the largest rate one kind of unit may have while the others are exact."""
        rate = self.options.start_rate
        while self._judged({kind: rate}, severity).mean_dB < self.options.min_psnr_dB:
            rate = self._lower(rate, kind)
        return rate

    def _lower(self, rate: float, kind: str) -> float:
        if rate / STEP < self.options.least_rate:
            raise StudyError(
                f"{kind} errs too much at a rate of {rate:g} still; least_rate {self.options.least_rate:g}"
            )
        return float(f"{rate / STEP:.6g}")

    def _judged(self, rates: Mapping[str, float], severity: str) -> Likeness:
        """Measure the pictures of units that err."""
        self.progress(f"error rates, {severity}", self.evaluations, self.evaluations + 1)
        self.evaluations += 1
        row = {"level": 1, **rates, **self.options.severities[severity]}
        knob = self.options.faults
        setting: Setting = {self.layer.name: LayerSetting({knob: 1}, {knob: (row,)})}
        return self.problem.likeness(setting)

    # the filters (sections 2.4.2 and 2.4.3) --------------------------------------------------------------------------
    def filters(self, rates: Mapping[str, float], severity: str) -> dict[str, dict[str, int]]:
        """Return the filters of every kind: numbers of patterns that take least energy, found one kind at a time."""
        chosen = {kind: _filter(self.options.patterns[0], rate) for kind, rate in rates.items()}
        for done, (kind, rate) in enumerate(rates.items()):
            self.progress(f"filters, {severity}", done, len(rates))
            tried = [{**chosen, kind: one} for one in self._tried(rate)]
            chosen = min(tried, key=self._energy)
        return chosen

    def _tried(self, rate: float) -> Iterator[dict[str, int]]:
        """Yield a filter for every number of patterns that can keep the rate. Raises: StudyError if none can."""
        first, *more = self.options.patterns
        yield _filter(first, rate)
        for n in more:
            with suppress(StudyError):
                yield _filter(n, rate)

    def _energy(self, filters: Mapping[str, Mapping[str, int]]) -> float:
        setting = {self.layer.name: LayerSetting({self.options.match: 1})}
        return self.problem.with_fields({self.options.filters: filters}).unit_energy(setting)


def _filter(n: int, rate: float) -> dict[str, int]:
    """Return the Config of a filter of n patterns."""
    m, k = sized(n, rate)
    return {"patterns": n, "m": m, "k": k}
