"""Every example in the documentation runs as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import archsim
from archsim.assets import find
from archsim.cli import app
from archsim.config import Study, study_from_text
from archsim.tuner.method import find_method
from archsim.tuner.spec import load_tune
from archsim.workload.networks import load_network

DOCS = Path(__file__).parents[2] / "docs"
TESTED_ELSEWHERE = {"adding-an-accelerator.md", "dram.md"}


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(), flags=re.DOTALL)


@pytest.fixture
def page_folder(tmp_path: Path) -> Path:
    """The files of the page on studies, under their titles."""
    found = re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', (DOCS / "study-file.md").read_text(), flags=re.DOTALL)
    for title, text in found:
        (tmp_path / title).write_text(text)
    return tmp_path


def second_study(folder: Path) -> Study:
    return study_from_text(blocks("study-file.md", "yaml")[1], folder)


def test_no_page_has_untested_examples() -> None:
    languages = {page.name: set(re.findall(r"^```(\w+)", page.read_text(), re.MULTILINE)) for page in DOCS.glob("*.md")}
    runnable = {name for name, found in languages.items() if found & {"yaml", "python"}}
    assert runnable == {"study-file.md", "tuning.md"} | TESTED_ELSEWHERE


def test_study_examples_resolve(page_folder: Path) -> None:
    found = blocks("study-file.md", "yaml")
    assert len(found) == 2
    for text in found:
        assert study_from_text(text, page_folder).machines


def test_second_study_does_what_the_page_says(page_folder: Path) -> None:
    result = archsim.simulate(second_study(page_folder))
    layers = {layer.name: layer for layer in result.layers}
    assert (layers["conv1"].accelerator, layers["conv2"].accelerator) == ("npu", "small")
    assert layers["conv1"].metrics["mapping"]["strip_rows"] == 8
    assert layers["conv2"].metrics["ifmap_zero_fraction"] == 0.5
    assert layers["conv2"].energy_pJ["idle.others"] == pytest.approx(12e3 * layers["conv2"].latency_us)
    assert "idle.others" not in layers["conv1"].energy_pJ
    assert layers["pool1"].cycles > 0
    prices = result.provenance["prices"]
    assert (prices["small"]["technology_nm"], prices["small"]["scaled_from_nm"]) == (45, 65)
    assert prices["npu"]["name"] == "isca16" and "nnd-chip" in result.provenance["machines"]["small"]["about"]


def test_networks_of_the_page_load(page_folder: Path) -> None:
    tiny, topology = (load_network(name, page_folder) for name in ("tiny.yaml", "topology.csv"))
    assert tiny.macs_dense == 16 * 16 * 8 * 27 + 8 * 8 * 16 * 72 + 1024 * 10
    assert topology.macs_dense == 16 * 16 * 8 * 27 + 8 * 8 * 8 * 9


def test_tune_file_of_the_page_is_the_shipped_one(tmp_path: Path) -> None:
    (text,) = re.findall(r'```yaml title="task.yaml"\n(.*?)```', (DOCS / "tuning.md").read_text(), flags=re.DOTALL)
    (tmp_path / "task.yaml").write_text(text)
    shown, shipped = load_tune(tmp_path / "task.yaml"), load_tune("snapea-digits.yaml")
    assert shown.spec.model_copy(update={"store": None, "options": {}}) == shipped.spec
    options = find_method(shown.spec.method).Options
    assert options.model_validate(shown.spec.options) == options()  # the page shows the defaults


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_commands_of_the_pages_exist(page: Path) -> None:
    root = get_command(app)
    plain = "".join(block for block in page.read_text().split("```")[1::2] if block.startswith("\n"))
    for line in re.findall(r"^archsim .*$", plain, flags=re.MULTILINE):
        words = shlex.split(line.partition("#")[0])
        command = root.commands[words[1]]  # type: ignore[attr-defined]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line
        for word in words[2:]:
            if word.endswith(".yaml") and "/" not in word and word != "study.yaml" and word != "grid.yaml":
                assert find(word)


def test_formats_of_the_page_are_offered() -> None:
    from archsim.accelerators.base import accelerator_class

    for kind in ("eyeriss", "snapea"):
        offered = {number_format.name for number_format in accelerator_class(kind).formats}
        assert offered == {f"fixed{bits}" for bits in range(2, 17)}


@pytest.mark.parametrize("text", blocks("study-file.md", "python"))
def test_python_examples_run(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(text, "docs/study-file.md", "exec"), names)
    latency_us, top1 = map(float, capsys.readouterr().out.split())
    assert latency_us > 0
    assert top1 > 0.9
    assert len(names["frames"]["layers"]) == len(names["result"].layers)
