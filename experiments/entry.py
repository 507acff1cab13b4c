"""Entry point of the `cfisac` script: light, so that it can answer before anything that is heavy, or missing, is imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Import the command line and run it."""
    try:
        from experiments import cli, signals
    except KeyboardInterrupt:
        print("cfisac: interrupted; nothing had begun", file=sys.stderr)
        return 130
    status = cli.main()
    if status > 128:
        signals.ignore()  # one more Ctrl+C, or numba's echo of the first, while the interpreter ends
    return status


if __name__ == "__main__":
    sys.exit(main())
