"""Say in one line what is missing to create the virtual environment; runs on any Python 3."""

import importlib.util
import sys

NEEDED = (3, 11)


def complaint(version, has_venv):
    """Return what to install, or None if this Python can create the environment."""
    found = ".".join(str(part) for part in version[:2])
    if tuple(version[:2]) < NEEDED:
        return (
            "archsim needs Python 3.11 or newer, " + sys.executable + " is " + found + "; "
            "name another one with: make PYTHON=python3.12"
        )
    if not has_venv:
        return "Python " + found + " has no venv module; install it with: apt install python3-venv"
    return None


if __name__ == "__main__":
    # Debian ships venv without ensurepip, which is what fails later and less clearly.
    problem = complaint(sys.version_info, all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")))
    if problem:
        sys.exit(problem)
