"""archsim: what latency, energy and accuracy become if a network runs on an approximate accelerator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.config import Study, load_study, study_from_text
    from archsim.result import RunResult
    from archsim.run import simulate

__version__ = "0.1.0"

_HOME = {
    "Study": "archsim.config",
    "load_study": "archsim.config",
    "study_from_text": "archsim.config",
    "RunResult": "archsim.result",
    "simulate": "archsim.run",
}
__all__ = ["RunResult", "Study", "__version__", "load_study", "simulate", "study_from_text"]


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Load the public names when first used, so that importing archsim costs nothing."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'archsim' has no attribute {name!r}")
