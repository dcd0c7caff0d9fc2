"""SCALE-Sim topology CSV: both variants, what differs from SCALE-Sim, and errors with line, column and value."""

from __future__ import annotations

import pytest

from archsim.errors import WorkloadError
from archsim.workload.layers import Conv, Linear
from archsim.workload.scalesim import load_topology

CONV = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
ALEXNET = CONV + "Conv1 ,224 ,224 ,11 ,11 ,3 ,96 ,4 ,\nConv2, 27, 27, 5, 5, 96, 256, 1,\n\nConv3,13,13,3,3,256,384,1\n"


@pytest.fixture
def load(tmp_path):
    def load_text(text):
        path = tmp_path / "net.csv"
        path.write_text(text)
        return load_topology(path)

    return load_text


def test_convolutions(load):
    network = load(ALEXNET)
    conv1, conv2, conv3 = network.layers
    assert (conv1.C, conv1.M, conv1.H, conv1.W, conv1.R, conv1.S, conv1.stride) == (3, 96, 224, 224, 11, 11, (4, 4))
    assert conv2.macs_dense == 23 * 23 * 5 * 5 * 96 * 256 and conv3.name == "Conv3"
    assert network.shape_only and network.name == "net"


def test_layers_are_independent(load):
    network = load(ALEXNET)
    assert [layer.inputs for layer in network.layers] == [("Conv1.in",), ("Conv2.in",), ("Conv3.in",)]
    assert network.shapes["Conv2.in"] == (96, 27, 27) and network.shapes["Conv2"] == (256, 23, 23)


def test_notes_say_where_the_ceil_formula_gives_another_shape(load):
    about, *differing = load(ALEXNET).notes
    assert "independent" in about
    # ceil((224 - 11 + 4) / 4) = 55, whole windows: 54
    assert differing == [
        "Conv1: SCALE-Sim's ceil formula gives 55x55 outputs; only whole windows count here: 54x54",
    ]


def test_products(load):
    network = load("Layer,M,N,K\n1,256,128,2048\nfc, 1, 10, 64,\n")
    rows, single = network.layers
    assert rows.macs_dense == 256 * 128 * 2048 and rows.weight_count == 128 * 2048
    assert isinstance(rows, Conv) and network.shapes["1"] == (128, 256, 1)
    assert isinstance(single, Linear) and single.macs_dense == 640


def test_two_strides_batch_sparsity_comments_and_depthwise(load):
    header = CONV.replace("Strides,", "Stride Height, Stride Width, Batch, Sparsity,")
    network = load(header + "a, 9, 8, 3, 3, 4, 6, 2, 1, 16, 2:4,\nDP_b, 7, 7, 3, 3, 5, 2, 1, 1, 1, ,#dw\n")
    a, depthwise = network.layers
    assert a.stride == (2, 1) and network.shapes["a"] == (6, 4, 6)
    assert (depthwise.groups, depthwise.M, depthwise.macs_dense) == (5, 10, 5 * 2 * 25 * 9)
    assert network.notes[1:] == (
        "a: the batch column is not used, the study's workload.batch decides",
        "a: the sparsity column is not used",
    )


def test_a_second_stride_without_a_name(load):
    assert load(CONV + "a, 9, 8, 3, 3, 4, 6, 2, 1,\n").layers[0].stride == (2, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONV + "a, 9, 8, 3, x, 4, 6, 2,\n", "net.csv:2: a: Filter Width: must be a whole number of"),
        (CONV + "a, 9, 8, 3, 3, 4, 6, 2,\nb, 9, 8, 3, 3, 0, 6, 2,\n", "net.csv:3: b: Channels: must be a whole number"),
        (CONV + "a, 9, 8, 3, 3, 4, 6, -2,\n", "net.csv:2: a: Strides: must be a whole number of at least 1, got '-2'"),
        (CONV + "a, 9, 8, 3, 3, 4, 6, 2.0,\n", "got '2.0'"),
        (CONV + "a, 9, 8, 3, 3, 4, 6, 2, x,\n", "net.csv:2: a: Stride Width: must be a whole number"),
        (CONV + "a, 9, 8, 3, 3,\n", "net.csv:2: a: Channels: is missing, the line has 4 values"),
        (CONV + "a, 9, 8, 3, 3, 4, 6, 2, 1, 1,\n", "net.csv:2: a: has 9 values, the header names 8"),
        (CONV + "a, 9, 8, 10, 3, 4, 6, 2,\n", "net.csv:2: a: Filter Height: 10 is larger than IFMAP Height 9"),
        (CONV + "a, 9, 8, 3, 9, 4, 6, 2,\n", "net.csv:2: a: Filter Width: 9 is larger than IFMAP Width 8"),
        (CONV + ", 9, 8, 3, 3, 4, 6, 2,\n", "net.csv:2: Layer name: must not be empty"),
        (CONV + "a, 9, 8, 3, 3, 4, 6, 2,\n" * 2, "net.csv:3: layer name 'a' given twice (first in line 2)"),
        ("Layer, M, N, K,\na, 1, 2,\n", "net.csv:2: a: K: is missing, the line has 2 values"),
        (CONV.replace("Strides,", "Strides, Colour,") + "a, 9, 8, 3, 3, 4, 6, 2, 1,\n", "net.csv:1: unknown column"),
        ("a, 9, 8, 3, 3, 4, 6, 2,\n", "net.csv:1: the first line must be the header Layer name, IFMAP Height"),
        (CONV, "net.csv: has no layers"),
        ("\n\n", "net.csv: is empty"),
    ],
)  # fmt: skip
def test_bad_rows(load, text, words):
    with pytest.raises(WorkloadError) as caught:
        load(text)
    assert words in str(caught.value)


def test_a_binary_file(tmp_path):
    path = tmp_path / "net.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WorkloadError, match=r"net\.csv: not a readable text file"):
        load_topology(path)
