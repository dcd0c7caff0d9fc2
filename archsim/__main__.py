"""`archsim` and `python -m archsim`: the command line, and what Ctrl-C says while it is still being loaded."""

import sys


def main() -> None:
    """Load and run the command line."""
    try:
        from archsim.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("archsim: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
