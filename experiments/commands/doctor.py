"""`cfisac doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.console import Console

import cfisac_env
from cfisac_env import collisions, extras, files, jit
from experiments.commands.common import Command, Output
from experiments.commands.warmup import kernels


@dataclass(frozen=True)
class Doctor(Command):
    """Report versions, missing extras, import-name conflicts, devices, and the state of the compiled kernels."""

    output: ClassVar[Output] = "own"
    out: ClassVar[None] = None

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Look, print."""
        for name, found in report().items():
            console.print(f"{name}: {found}", markup=False, highlight=False, soft_wrap=True)


def report() -> dict[str, str]:
    """Return what was found, by topic."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "cfisac": f"{cfisac_env.__version__} in {extras.ROOT}",
        "python": f"{platform.python_version()}, {platform.system()} {platform.machine()}, {cores} processors",
        "packages": ", ".join(f"{name} {version}" for name, version in extras.versions().items() if name != "cfisac"),
    }
    missing = {name: extra for name, extra in extras.EXTRAS.items() if importlib.util.find_spec(name) is None}
    for extra in dict.fromkeys(missing.values()):
        names = ", ".join(name for name in missing if missing[name] == extra)
        found[f"without the extra {extra!r}"] = f"{names}; {extras.install_command(extra)}"
    if (conflict := collisions.line()) is not None:
        found["import names"] = conflict
    if "torch" not in missing:
        import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["torch"] = f"devices: {', '.join(['cpu', *gpus])}; {torch.get_num_threads()} threads"
    found["compiled kernels"] = _kernels()
    return found


def _kernels() -> str:
    if not jit.available():
        return "interpreted, which is hundreds of times slower: numba is missing, or NUMBA_DISABLE_JIT is set"
    place = jit.folder()
    if place is None:
        return "compiled by every process anew: there is no home folder; set NUMBA_CACHE_DIR to a folder"
    try:
        files.check_writable(place, folder=True)
    except OSError as error:
        return f"compiled by every process anew: {str(error).partition(';')[0]}; set NUMBA_CACHE_DIR to another folder"
    known = kernels()
    ready = sum(kernel.cached() for kernel in known.values())
    rest = "" if ready == len(known) else "; `cfisac warmup` compiles the others"
    return f"{ready} of {len(known)} ready in {place}{rest}"
