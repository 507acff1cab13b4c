"""`cfisac warmup`: compile ahead of the first use."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from rich.console import Console

from cfisac_env import files, jit
from experiments.commands.common import Command, Count, Output, open_option, progress
from experiments.errors import UserError

MODULES = ("baselines", "agents.hetgnn.compiled", "cfisac_env.kernels", "cfisac_env.random_kernels")
"""Modules that import all kernels; those of the slowest compilations come first."""


@dataclass(frozen=True)
class Warmup(Command):
    """Compile every numerical kernel ahead of its first use, and cache the machine code.

    The cache is in the user's cache folder, or under `NUMBA_CACHE_DIR`, and serves later processes of the same versions on the same kind of
    processor.
    """

    output: ClassVar[Output] = "own"
    out: ClassVar[None] = None
    kept: ClassVar[str] = "compiled kernels are kept, and the same command goes on from there"

    workers: Annotated[Count | None, open_option("INT")] = None
    """Number of processes; by default one a processor."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Compile in several processes, print."""
        from experiments.parallel import in_order

        if not jit.available():
            importlib.import_module("numba")  # raises the reason, if that is it
            raise UserError("NUMBA_DISABLE_JIT is set, so that nothing is compiled; unset it and call warmup again")
        place = jit.folder()
        if place is None:
            raise UserError("there is no home folder to keep machine code in; set NUMBA_CACHE_DIR to a folder")
        try:
            files.check_writable(place, folder=True)
        except OSError as error:
            raise UserError(
                f"{str(error).partition(';')[0]}; set NUMBA_CACHE_DIR to a folder that can be written"
            ) from error
        known = kernels()
        missing = [name for name, kernel in known.items() if not kernel.cached()]
        with progress() as bar:
            task = bar.add_task("compiling", total=len(missing))
            for _ in in_order(_compile, missing, workers=self.workers if len(missing) > 1 else 1):
                bar.advance(task)
        lost = [name for name, kernel in known.items() if not kernel.cached()]
        if lost:
            raise OSError(f"the machine code of {', '.join(lost)} couldn't be kept in {place}: is its disk full?")
        console.print(
            f"{len(missing)} of {len(known)} kernels compiled, the others were there; machine code is in {place}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def kernels() -> dict[str, jit.Kernel]:
    """Return the kernels of the packages whose extras are installed."""
    for module in MODULES:
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module(module)
    return dict(jit.ENTRIES)


def _compile(name: str) -> None:
    jit.announce = jit.log_debug
    kernels()[name].compile()
