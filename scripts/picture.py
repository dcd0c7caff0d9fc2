"""Draw what `archsim run configs/quickstart.yaml` prints: `python scripts/picture.py` writes docs/quickstart.svg."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

import archsim
from archsim.report.table import WIDTH, run_report

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "archsim run configs/quickstart.yaml"


def picture() -> str:
    """Return the terminal after a run of the quick start study, as SVG."""
    result = archsim.simulate(archsim.load_study(ROOT / "configs" / "quickstart.yaml"))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(f"$ {COMMAND}", highlight=False)
    console.print(run_report(result.to_dict()))
    # A fixed id: the same run gives the same file. The fonts rich would fetch from the network are left to the reader.
    svg = console.export_svg(title="archsim", unique_id="archsim")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    (ROOT / "docs" / "quickstart.svg").write_text(picture(), encoding="utf-8")
