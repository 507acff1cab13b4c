"""Entry point of the `cfisac` script: light, so that it can answer before anything that is heavy, or missing, is imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Import the command line and run it."""
    try:
        from experiments import cli
    except KeyboardInterrupt:
        print("cfisac: interrupted; nothing had begun", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
