"""Study files: what is accepted, and that every mistake is one line naming file, line, field, rule and value."""

from __future__ import annotations

import pytest

from archsim.config import load_study, study_from_text
from archsim.errors import ArchsimError, StudyError
from archsim.run import simulate

GOOD = """\
schema: 1
name: tiny
workload:
  network: digits_cnn.onnx
  data: {name: digits, images: 12}
  batch: 2
platform:
  accelerators:
    npu: {kind: eyeriss, preset: chip-jssc17}
  memory: {kind: link, preset: eyeriss-jssc17}
"""


def test_good_study_is_resolved() -> None:
    study = study_from_text(GOOD)
    resolved = study.to_dict()
    assert resolved["platform"]["accelerators"]["npu"]["clock_MHz"] == 200.0
    assert resolved["platform"]["accelerators"]["npu"]["format"] == "fixed16"
    assert resolved["platform"]["memory"]["bandwidth_GB_per_s"] == 0.48
    assert study.assign == {"default": "npu"}
    assert study.workload.images_timed == 12


def test_resolved_study_resolves_to_itself() -> None:
    import yaml

    study = study_from_text(GOOD)
    again = study.to_dict()
    for value in (*again["platform"]["accelerators"].values(), again["platform"]["memory"]):
        value.pop("preset")
    again.pop("compare_to")
    second = study_from_text(yaml.safe_dump(again))
    expected = study.to_dict()
    for data in (expected, changed := second.to_dict()):
        for value in (*data["platform"]["accelerators"].values(), data["platform"]["memory"]):
            value.pop("preset")
    assert changed == expected


BAD = {
    "unknown key": ("name: tiny", "name: tiny\nsede: 3", ["study:3", "'sede'", "did you mean 'seed'"]),
    "unknown workload key": ("batch: 2", "bacht: 2", ["study:6", "workload", "did you mean 'batch'", "allowed:"]),
    "unknown machine field": ("chip-jssc17}", "chip-jssc17, pe_row: 3}", ["study:9", "npu", "did you mean 'pe_rows'"]),
    "wrong type": ("batch: 2", "batch: two", ["study:6", "workload.batch", "'two'", "integer"]),
    "a float for an int": ("batch: 2", "batch: 2.5", ["study:6", "workload.batch", "2.5"]),
    "a bool for an int": ("batch: 2", "batch: true", ["study:6", "workload.batch", "True"]),
    "negative size": ("images: 12", "images: -4", ["study:5", "workload.data.images", "greater than 0", "-4"]),
    "zero size": ("images: 12", "images: 0", ["study:5", "workload.data.images", "greater than 0", "got 0"]),
    "negative array": ("chip-jssc17}", "chip-jssc17, pe_rows: -12}", ["study:9", "pe_rows", "-12"]),
    "unknown preset": ("preset: chip-jssc17", "preset: chip-jsc17", ["study:9", "did you mean 'chip-jssc17'"]),
    "unknown kind": ("kind: eyeriss", "kind: eyerris", ["study:9", "kind", "did you mean 'eyeriss'"]),
    "unknown memory": ("kind: link", "kind: lnik", ["study:10", "memory", "did you mean 'link'"]),
    "unknown format": ("chip-jssc17}", "chip-jssc17, format: fixed99}", ["study:9", "format", "fixed99", "fixed16"]),
    "missing field": ("  memory: {kind: link, preset: eyeriss-jssc17}\n", "", ["study:7", "needs", "memory"]),
    "missing memory value": ("preset: eyeriss-jssc17", "latency_ns: 1", ["study:10", "needs", "bandwidth_GB_per_s"]),
    "two sources of images": ("name: digits", "name: digits, file: a.npz", ["study:5", "data", "exactly one"]),
    "timed not a multiple": ("batch: 2", "batch: 2\n  timed_images: 3", ["study:7", "multiple of batch 2", "3"]),
    "timed too many": ("batch: 2", "batch: 2\n  timed_images: 14", ["study:7", "12", "14"]),
    "unknown machine": ("  memory:", "  assign: {default: npx}\n  memory:", ["study:10", "did you mean 'npu'"]),
    "repeated key": ("name: tiny", "name: tiny\nname: again", ["study:3", "twice", "line 2"]),
    "wrong schema": ("schema: 1", "schema: 2", ["study:1", "schema", "1", "got 2"]),
    "a preset that is a list": ("preset: chip-jssc17", "preset: [chip-jssc17]", ["study:9", "npu.preset", "unknown"]),
    "a format that is a mapping": (
        "chip-jssc17}",
        "chip-jssc17, format: {a: 1}}",
        ["study:9", "npu.format", "fixed16"],
    ),
    "a bool for a size": ("chip-jssc17}", "chip-jssc17, pe_rows: yes}", ["study:9", "npu.pe_rows", "integer", "True"]),
    "a size beyond 32 bit": (
        "chip-jssc17}",
        "chip-jssc17, pe_rows: 3000000000}",
        ["npu.pe_rows", "less than", "3000000000"],
    ),
    "a bank without a word": ("chip-jssc17}", "chip-jssc17, global_buffer_bank_bytes: 1}", ["bank_bytes", "got 1"]),
    "wrapping psums of chip16": (
        "chip-jssc17}",
        "chip-jssc17, psum_mode: chip16, overflow: wrap}",
        ["npu", "saturate"],
    ),
    "no strides": ("chip-jssc17}", "chip-jssc17, native_vertical_strides: []}", ["native_vertical_strides", "got []"]),
    "no end to the clock": ("chip-jssc17}", "chip-jssc17, clock_MHz: .inf}", ["npu.clock_MHz", "finite", "inf"]),
    "no end to idle power": ("chip-jssc17}", "chip-jssc17, idle_power_mW: .inf}", ["npu.idle_power_mW", "finite"]),
    "a negative shift": ("chip-jssc17}", "chip-jssc17, product_shift: {conv1: -1}}", ["npu.product_shift.conv1", "-1"]),
    "a huge batch": ("batch: 2", "batch: 10000000", ["study:6", "workload.batch", "less than", "10000000"]),
    "more zeros than all": ("batch: 2", "batch: 2\n  zero_fractions: {conv1: 1.5}", ["zero_fractions.conv1", "1.5"]),
    "fewer zeros than none": ("batch: 2", "batch: 2\n  zero_fractions: {conv1: -1}", ["zero_fractions.conv1", "-1"]),
    "zeros that are no number": (
        "batch: 2",
        "batch: 2\n  zero_fractions: {conv1: .nan}",
        ["zero_fractions.conv1", "nan"],
    ),
    "unknown zeros": (
        "batch: 2",
        "batch: 2\n  zero_fractions: {conv1: {ifmp: 0}}",
        ["zero_fractions.conv1: unknown", "'ifmap'"],
    ),
    "a name that is a path": ("name: tiny", "name: ../tiny", ["study:2", "name", "../tiny"]),
}


@pytest.mark.parametrize("case", BAD)
def test_every_mistake_is_one_clear_line(case: str) -> None:
    old, new, expected = BAD[case]
    assert old in GOOD
    with pytest.raises(StudyError) as caught:
        study_from_text(GOOD.replace(old, new))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400 or "allowed:" in message
    for part in expected:
        assert part in message, message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "schema: [1\n", "a: b: c\n", "\tx: 1\n"])
def test_files_that_are_no_study(text: str) -> None:
    with pytest.raises(StudyError, match="study") as caught:
        study_from_text(text)
    assert "\n" not in str(caught.value)


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)
ODD_YAML = {
    "alias inside its anchor": ("a: &a [*a]\n", "anchor"),
    "aliases of aliases": (ALIASES, "entries"),
    "deep nesting": ("[" * 3000, "nested"),
    "a list as key": ("? [a, b]\n: 1\n", "study:1.*key"),
    "endless integer": (f"name: x\nseed: {'9' * 5000}\n", "study:2.*is no int"),
    "impossible date": ("name: x\nseed: 2020-99-99\n", "study:2.*'2020-99-99' is no timestamp"),
    "wrong tag": ("a: !!bool maybe\n", "study:1.*'maybe' is no bool"),
    "control character": (GOOD + "\x00", "not valid YAML"),
}


@pytest.mark.parametrize("case", ODD_YAML)
def test_odd_yaml_is_one_clear_line(case: str) -> None:
    text, expected = ODD_YAML[case]
    with pytest.raises(StudyError, match=expected) as caught:
        study_from_text(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_override_of_what_is_no_study(text: str, tmp_path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match="mapping"):
        load_study(path, ["workload.batch=4"])


def test_override_changes_one_of_two_machines_that_share_an_anchor(tmp_path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        GOOD.replace("npu: {", "npu: &npu {").replace("  memory", "    big: *npu\n  assign: {default: npu}\n  memory")
    )
    study = load_study(path, ["platform.accelerators.big.clock_MHz=100"])
    assert {name: machine.config.clock_MHz for name, machine in study.machines.items()} == {"npu": 200, "big": 100}


def test_override(tmp_path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(GOOD)
    study = load_study(path, ["workload.batch=4", "platform.accelerators.npu.clock_MHz=100"])
    assert study.workload.batch == 4
    assert study.machines["npu"].config.clock_MHz == 100
    for wrong in ("workload.batch", "=3", "workload.batch=[", "name.x=1", "seed=!!int x"):
        with pytest.raises(StudyError):
            load_study(path, [wrong])


def test_missing_study_names_the_nearest(tmp_path) -> None:
    with pytest.raises(ArchsimError, match=r"quickstrat.yaml.*did you mean 'quickstart.yaml'"):
        load_study("quickstrat.yaml")


def test_levels_come_inline_or_from_csv(tmp_path) -> None:
    (tmp_path / "rows.csv").write_text("filter,level,th,n\n0,1,-3,4\n1,1,0.5,8\n")
    tail = "knobs: {conv2: {speculation: [0, 1]}}\nlevels: {speculation: {conv2: rows.csv}}\n"
    study = study_from_text(GOOD + tail, tmp_path)
    setting = study.setting["conv2"]
    assert setting.level("speculation") == (0, 1)
    assert setting.tables["speculation"][1] == {"filter": 1, "level": 1, "th": 0.5, "n": 8}
    (tmp_path / "rows.csv").write_text("filter,level,th,n\n0,1,minus,4\n")
    with pytest.raises(StudyError, match=r"rows.csv:2: th: must be a number, got 'minus'"):
        study_from_text(GOOD + tail, tmp_path)


LEVELS = {
    "not a number": ("filter,level,th\n0,1,nan\n", r"rows.csv:2: th: must be a number, got 'nan'"),
    "a missing cell": ("filter,level,th\n0,1\n", r"rows.csv:2: th: must be a number, got None"),
    "a cell too many": ("filter,level,th\n0,1,2,3\n", r"rows.csv:2: cells beyond the header"),
    "no level": ("filter,th\n0,1\n", "needs a column 'level'"),
    "a level for exact": ("filter,level\n0,0\n", "above 0"),
    "not text": (b"\xff\xfe\x00", "not a readable CSV"),
}


@pytest.mark.parametrize("case", LEVELS)
def test_levels_that_are_no_table(case: str, tmp_path) -> None:
    content, expected = LEVELS[case]
    (tmp_path / "rows.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StudyError, match=expected):
        study_from_text(GOOD + "levels: {speculation: {conv2: rows.csv}}\n", tmp_path)


@pytest.mark.parametrize("row", ["{level: 1, th: .nan}", "{level: 1, th: 2020-01-01}", "{th: 1}", "{level: true}"])
def test_inline_levels_hold_finite_numbers(row: str) -> None:
    with pytest.raises(StudyError, match=r"levels\.speculation\.conv2"):
        study_from_text(GOOD + f"levels: {{speculation: {{conv2: [{row}]}}}}\n")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", ""])
def test_impossible_file_names_are_not_found(name: str) -> None:
    with pytest.raises(ArchsimError, match="not found"):
        load_study(name)


def test_network_without_work_for_a_machine(tmp_path) -> None:
    layer = "{name: pool1, pool: {kind: max, kernel: 2, stride: 2}}"
    (tmp_path / "pools.yaml").write_text(f"name: pools\nsource: test\ninput: [1, 8, 8]\nlayers: [{layer}]\n")
    study = GOOD.replace("digits_cnn.onnx", "pools.yaml").replace("  data: {name: digits, images: 12}\n", "")
    with pytest.raises(StudyError, match=r"study:4: workload.network: pools has no layer .* \(none of Conv, Linear\)"):
        simulate(study_from_text(study, tmp_path))
