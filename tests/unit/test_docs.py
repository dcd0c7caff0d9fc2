"""Every example in the documentation runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archsim.config import study_from_text

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(), flags=re.DOTALL)


def test_study_examples_resolve() -> None:
    found = blocks("study-file.md", "yaml")
    assert found
    for text in found:
        assert study_from_text(text).machines


@pytest.mark.parametrize("text", blocks("study-file.md", "python"))
def test_python_examples_run(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(text, "docs/study-file.md", "exec"), names)
    latency_us, top1 = map(float, capsys.readouterr().out.split())
    assert latency_us > 0
    assert top1 > 0.9
    assert len(names["frames"]["layers"]) == len(names["result"].layers)
