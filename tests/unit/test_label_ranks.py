"""How many classes score above the right one, ties and what is no number included."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.workload.bench import label_ranks

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "label", "rank"),
    [
        ([1.0, 3.0, 2.0], 1, 0),
        ([1.0, 3.0, 2.0], 0, 2),
        ([2.0, 2.0, 1.0], 1, 1),
        ([2.0, 2.0, 1.0], 0, 0),
        ([NAN, 1.0, 2.0], 0, 2),
        ([NAN, NAN, NAN], 2, 2),
        ([NAN, 1.0, 2.0], 2, 0),
    ],
)
def test_ranks(scores: list[float], label: int, rank: int) -> None:
    assert label_ranks(np.array([scores]), np.array([label])).tolist() == [rank]
