"""Shape-only YAML: what every key builds, blocks, and errors with file, line, rule and value."""

from __future__ import annotations

import pytest

from archsim.errors import WorkloadError
from archsim.workload.layers import Activation, Concat, Conv, Linear, Lrn, Pool, Reshape, Softmax, Wiring
from archsim.workload.shapes import load_shapes

HEAD = "name: net\nsource: a test\ninput: [4, 12, 10]\nlayers:\n"  # layers start in line 5
BLOCK = """name: net
source: a test
input: [4, 12, 10]
blocks:
  fork:
    parameters: [m, k]
    layers:
      - {name: left, conv: {M: m, kernel: [k, 1]}, relu: true}
      - {name: right, from: in, conv: {M: m, kernel: [k, 1]}}
      - {name: sum, from: [left, right], add: {}, clip: [-1.0, 2.5]}
layers:
"""


@pytest.fixture
def load(tmp_path):
    def load_text(text):
        path = tmp_path / "net.yaml"
        path.write_text(text)
        return load_shapes(path)

    return load_text


@pytest.fixture
def fails(load):
    def message(text):
        with pytest.raises(WorkloadError) as caught:
            load(text)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


def test_every_operation(load):
    network = load(
        HEAD
        + """
  - {name: a, conv: {M: 8, kernel: [3, 2], stride: [2, 1], pad: [1, 0, 2, 1], dilation: 2, groups: 4}, clip: [0.0, 6.0]}
  - {name: b, depthwise: {kernel: 3, pad: 1}, relu: true, zero_fraction: {ifmap: 0.25}}
  - {name: c, pool: {kind: average, kernel: 2, stride: 2, ceil: true}}
  - {name: d, lrn: {size: 3, alpha: 0.1, beta: 0.5, bias: 2.0}}
  - {name: e, from: c, subsample: {M: 11, stride: 2}}
  - {name: f, from: [e, e], concat: {}}
  - {name: g, global_average_pool: {}}
  - {name: h, flatten: {}}
  - {name: i, linear: {M: 5}}
  - {name: j, softmax: {}}
"""
    )
    a, b, c, d, e, f, g, h, i, j = network.layers
    assert (a.R, a.S, a.stride, a.pad, a.dilation, a.groups) == (3, 2, (2, 1), (1, 0, 2, 1), (2, 2), 4)
    assert isinstance(a, Conv) and a.activation == Activation("clip", 0.0, 6.0)
    assert network.shapes["a"] == (8, 6, 9)  # (12+3-5)//2+1 rows, 10+1-3+1 columns
    assert (b.C, b.M, b.groups, b.activation.kind) == (8, 8, 8, "relu")
    assert network.zero_fractions == {"b": (0.25, None)}
    assert isinstance(c, Pool) and network.shapes["c"] == (8, 3, 5)
    assert d == Lrn(name="d", inputs=("c",), output="d", size=3, alpha=0.1, beta=0.5, bias=2.0)
    assert isinstance(e, Wiring) and e.source == (-1, 0, 1, 2, 3, 4, 5, 6, 7, -1, -1) and e.inputs == ("c",)
    assert isinstance(f, Concat) and network.shapes["f"] == (22, 2, 3)
    assert (g.R, g.S, network.shapes["g"]) == (2, 3, (22, 1, 1))
    assert isinstance(h, Reshape) and isinstance(i, Linear) and isinstance(j, Softmax)
    assert i.map_shape == (22, 1, 1) and (network.input, network.output) == ("input", "j")
    assert network.shape_only and network.macs_dense == 8 * 6 * 9 * 1 * 6 + 8 * 6 * 9 * 9 + 22 * 5


def test_a_flat_input(load):
    assert load("name: n\nsource: t\ninput: [7]\nlayers:\n- {name: a, linear: {M: 3}}\n").macs_dense == 21


def test_blocks_are_written_out_with_their_names(load):
    network = load(
        BLOCK
        + "  - {name: one, block: fork, m: 4, k: 3}\n"
        + "  - {name: two, block: fork, m: 4, k: 1}\n"
        + "  - {name: end, from: [one, two], concat: {}}\n".replace("[one, two]", "[two, two]")
    )
    assert [layer.name for layer in network.layers] == [
        "one_left", "one_right", "one_sum", "two_left", "two_right", "two_sum", "end",
    ]  # fmt: skip
    assert network.layers[3].inputs == network.layers[4].inputs == ("one_sum",)
    assert network.layers[-1].inputs == ("two_sum", "two_sum")
    assert network.layers[2].activation == Activation("clip", -1.0, 2.5)
    assert (network.layers[0].R, network.layers[3].R) == (3, 1)


def test_a_block_can_start_at_a_named_layer(load):
    network = load(
        BLOCK
        + "  - {name: stem, conv: {M: 4, kernel: 1}}\n"
        + "  - {name: pool, pool: {kind: max, kernel: 2, stride: 2}}\n"
        + "  - {name: one, block: fork, from: stem, m: 4, k: 3}\n"
    )
    assert network.layers[2].inputs == network.layers[3].inputs == ("stem",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{name: a, conv: {M: 8, kernel: 13}}", ["layer 'a': kernel 13 is larger than the padded map: H = 12"]),
        ("{name: a, conv: {M: 8, kernel: 3, pad: -1}}", ["layer 'a': pad must be 0 or more, got (-1, -1, -1, -1)"]),
        ("{name: a, conv: {M: 0, kernel: 3}}", ["M must be at least 1, got 0"]),
        ("{name: a, conv: {M: 8, kernel: 0}}", ["kernel must be at least 1, got (0, 0)"]),
        ("{name: a, conv: {M: 8, kernel: 3, stride: 0}}", ["stride must be at least 1, got 0"]),
        ("{name: a, conv: {M: 8, kernel: 3, dilation: 0}}", ["dilation must be at least 1, got (0, 0)"]),
        ("{name: a, conv: {M: 8, kernel: 3, groups: 3}}", ["groups 3 must divide C = 4 and M = 8"]),
        ("{name: a, conv: {M: 8, kernel: 3, groups: 0}}", ["groups must be at least 1, got 0"]),
        ("{name: a, conv: {M: 8, kernel: [3, 3, 3]}}", ["kernel must be one number or two, got [3, 3, 3]"]),
        ("{name: a, conv: {M: 8, kernel: 3, pad: [1, 1]}}", ["pad must be one number or [top, left, bottom, right]"]),
        ("{name: a, conv: {M: '8', kernel: 3}}", ["layers.0.conv.M: must be a valid integer, got '8'"]),
        ("{name: a, conv: {M: 8, kernl: 3}}", ["unknown field 'kernl'; did you mean 'kernel'?"]),
        ("{name: a, conv: {M: 8}}", ["needs the field 'kernel'"]),
        ("{name: a, convv: {M: 8, kernel: 3}}", ["unknown field 'convv'; did you mean 'conv'?"]),
        ("{name: a}", ["needs exactly one operation of conv, depthwise", "got none"]),
        ("{name: a, flatten: {}, softmax: {}}", ["got flatten, softmax"]),
        ("{name: a, flatten: {}, relu: true}", ["relu and clip follow conv, depthwise, linear, add only, not flatten"]),
        ("{name: a, conv: {M: 8, kernel: 3}, clip: [2, 1]}", ["clip must be [low, high] without relu beside it"]),
        ("{name: a, conv: {M: 8, kernel: 3}, clip: [0, 1], relu: true}", ["without relu beside it, got [0"]),
        ("{name: a, linear: {M: 8}}", ["needs a flat input, got shape (4, 12, 10)"]),
        ("{name: a, pool: {kind: maxx, kernel: 2, stride: 2}}", ["layers.0.pool.kind", "got 'maxx'"]),
        ("{name: a, pool: {kind: max, kernel: 2, stride: 2, pad: 2}}", ["must be smaller than the kernel (2, 2)"]),
        ("{name: a, subsample: {M: 3, stride: 2}}", ["M must be at least C = 4, got 3"]),
        ("{name: a, subsample: {M: 4, stride: 0}}", ["stride must be at least 1"]),
        ("{name: a, from: [input, input], flatten: {}}", ["flatten reads one layer, got 2"]),
        ("{name: a, add: {}}", ["adds two tensors, got 1"]),
        ("{name: a, from: inputt, flatten: {}}", ["from: unknown layer 'inputt'; did you mean 'input'?"]),
        ("{name: a, from: [], add: {}}", ["from: must name a layer"]),
        ("{name: input, flatten: {}}", ["name 'input' given twice"]),
        ("{name: a, flatten: {}, zero_fraction: {ifmap: 1.5}}", ["less than or equal to 1, got 1.5"]),
        ("{name: a, block: fork}", ["'fork' (allowed: none)"]),
    ],
)  # fmt: skip
def test_a_wrong_layer_is_named_with_its_line(fails, line, words):
    text = fails(HEAD + "\n  - " + line + "\n")
    assert text.startswith("net.yaml:6: "), text
    assert all(word in text for word in words), text


def test_wrong_sizes_in_a_block_name_the_use(fails):
    text = fails(BLOCK + "  - {name: one, block: fork, m: 4, k: 9}\n  - {name: two, block: fork, m: 4, k: 9}\n")
    assert text.startswith("net.yaml:8: ") and "layer 'two_left': kernel 9 is larger" in text


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("{name: one, block: fork, m: 4}", "block 'fork' needs the parameter 'k'"),
        ("{name: one, block: fork, m: 4, k: 1, kk: 2}", "block 'fork' has no parameter 'kk'; did you mean 'k'?"),
        ("{name: one, block: frok, m: 4, k: 1}", "did you mean 'fork'?"),
        ("{name: one, block: fork, from: [input, input], m: 4, k: 1}", "a block reads one layer, got 2"),
        ("{block: fork, m: 4, k: 1}", "needs a name and a block"),
    ],
)
def test_wrong_uses_of_a_block(fails, use, words):
    text = fails(BLOCK + f"  - {use}\n")
    assert text.startswith("net.yaml:12: ") and words in text, text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "net.yaml: "),
        ("- a\n", "net.yaml"),
        ("name: [\n", "not valid YAML"),
        (HEAD, "net.yaml:4: layers"),
        (HEAD.replace("[4, 12, 10]", "[4, 12]") + "  - {name: a, flatten: {}}\n", "net.yaml:3: input: must be"),
        (HEAD.replace("12", "0") + "  - {name: a, flatten: {}}\n", "sizes at least 1, got [4, 0, 10]"),
        ("name: n\nlayers: []\nlayers: []\n", "net.yaml:3: layers: key given twice (first in line 2)"),
    ],
)  # fmt: skip
def test_wrong_files(fails, text, words):
    assert words in fails(text)
