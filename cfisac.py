"""The `cfisac` script, also `python -m cfisac`: light, so that it can answer before anything that is heavy, or missing, is imported."""

from __future__ import annotations

import signal
import sys
import warnings
from types import FrameType


class Interruption(KeyboardInterrupt):
    """See `baselines.interruption`, which is not imported yet."""


def main() -> int:
    """Import the command line and run it."""
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise Interruption

    numbers = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    for number in numbers:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)
    said = None
    try:
        status = _run()
    except ModuleNotFoundError as error:
        said, status = str(error), 2
    except BaseException:
        if not came:
            raise
    if came:  # whatever error the import that was interrupted ended in
        said, status = "interrupted; nothing had begun", 128 + came[0]
    if said is not None:
        print(f"cfisac: {said}", file=sys.stderr)
    if status > 128:  # one more Ctrl+C, or numba's echo of the first, while the interpreter ends
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
    return status


def _run() -> int:
    if sys.argv[1:] == ["--version"]:
        import cfisac_env

        print(f"cfisac {cfisac_env.__version__}")
        return 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`import .* gives ")  # said below
        from cfisac_env import collisions
    if (said := collisions.line()) is not None:
        raise ModuleNotFoundError(said)
    from experiments import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
