"""What a study says about its workload, as written in the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.yamlfile import Written

MAX_BATCH = 2**20
"""Images per batch; with more, counts of large networks would leave 64 bit."""
Fraction = Annotated[float, Field(ge=0, le=1)]


class DataSpec(Written):
    """Which images: a shipped data set by `name`, or a `file` with `images` and `labels`."""

    name: str | None = Field(default=None, description="a known data set, for example digits")
    file: str | None = Field(default=None, description=".npz with images and labels")
    split: Literal["train", "test"] = "test"
    images: int = Field(gt=0)
    first: int = Field(default=0, ge=0)


class ZeroFractions(Written):
    """Zero fractions of one layer of a shape-only network."""

    ifmap: Fraction | None = None
    ofmap: Fraction | None = None


class WorkloadSpec(Written):
    """Network, images and how many of them are timed."""

    network: str
    fold_input_norm: bool = False
    data: DataSpec | None = None
    calibration: DataSpec | None = None
    batch: int = Field(default=1, gt=0, le=MAX_BATCH)
    timed_images: int | Literal["all"] = "all"
    zero_fractions: dict[str, Fraction | ZeroFractions] = Field(default_factory=dict)
    max_memory_MB: int = Field(default=1000, gt=0)

    @property
    def images(self) -> int:
        """Images of the study: those of `data`, else one batch."""
        return self.data.images if self.data else self.batch

    @property
    def images_timed(self) -> int:
        """How many of the images are timed and priced."""
        return self.images if self.timed_images == "all" else self.timed_images
