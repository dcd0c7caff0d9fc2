"""The tune file: which study, which method, how much quality may be lost, on which images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from archsim import assets
from archsim.config import Study, load_study
from archsim.errors import StudyError
from archsim.workload.spec import DataSpec
from archsim.yamlfile import Written, YamlFile, override, read_yaml, validate

Points = Annotated[float, Field(ge=0, le=100)]


class TuneSpec(Written):
    """What stands below `tune:`."""

    study: str
    method: str
    max_loss_points: list[Points] | None = Field(
        default=None, min_length=1, description="of methods that choose levels"
    )
    optimise: DataSpec
    test: DataSpec
    store: str | None = Field(default=None, description="SQLite file of finished trials, beside the result folder")
    cost_images: int = Field(default=10, gt=0, description="images of `test` every solution is timed and priced on")
    options: dict[str, Any] = Field(default_factory=dict, description="of the method")


class TuneFile(Written):
    """The whole file."""

    tune: TuneSpec


@dataclass(frozen=True)
class TuneRequest:
    """A tune file with its study; `name` is that of the file, without its ending."""

    name: str
    spec: TuneSpec
    study: Study
    source: YamlFile


def load_tune(path: str | Path, overrides: Sequence[str] = ()) -> TuneRequest:
    """Read a tune file and the study it names; `overrides` are `a.b=value` texts, for the study or for `tune.`

    Raises: StudyError with file, line, field, rule and value.
    """
    given = Path(path)
    found = given if assets.is_file(given) else assets.find(str(path))
    source = read_yaml(found)
    if not isinstance(source.data, dict) or "tune" not in source.data:
        raise StudyError("a tune file has the key 'tune' with study, method, max_loss_points, ...", file=source.file)
    mine = [text for text in overrides if text.startswith("tune.")]
    spec = validate(TuneFile, override(source, mine).data, source).tune
    with source.errors_at(("tune", "study")):
        study = load_study(assets.find(spec.study, found.parent), [text for text in overrides if text not in mine])
    _check(spec, study, source)
    images = {field: _beside(getattr(spec, field), found.parent, study.folder) for field in ("optimise", "test")}
    return TuneRequest(found.stem, spec.model_copy(update=images), study, source)


def _beside(data: DataSpec, folder: Path, study: Path) -> DataSpec:
    """Name images that lie beside the tune file so that they are found from the study."""
    if data.file is None or not assets.is_file(folder / data.file):
        return data
    return data.model_copy(update={"file": os.path.relpath(folder / data.file, study)})


def _check(spec: TuneSpec, study: Study, source: YamlFile) -> None:
    """Check the rules that tie fields together."""
    for field in ("optimise", "test"):
        data = getattr(spec, field)
        if (data.name is None) == (data.file is None):
            raise source.error(("tune", field), "needs exactly one of 'name' and 'file'")
        if data.images % study.workload.batch:
            raise source.error(
                ("tune", field, "images"), f"must be a multiple of batch {study.workload.batch}, got {data.images}"
            )
    bounds = spec.max_loss_points or []
    if len(set(bounds)) < len(bounds):
        raise source.error(("tune", "max_loss_points"), f"must differ, got {spec.max_loss_points}")
    batch, limit = study.workload.batch, spec.test.images
    if spec.cost_images > limit or spec.cost_images % batch:
        raise source.error(
            ("tune", "cost_images"),
            f"must be a multiple of batch {batch} and at most the {limit} images of test, got {spec.cost_images}",
        )
