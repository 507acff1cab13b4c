"""Independence of torch's global settings: default precision, default device and random numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

if hasattr(os, "register_at_fork"):
    # A child process lacks its parent's threads, for which torch would wait forever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@contextmanager
def float32_on_cpu(seed: int | None = None) -> Iterator[None]:
    """Build in float32 on the CPU, and restore torch's defaults and generator afterwards.

    Args:
        seed: of the generator inside; None keeps its state.
    """
    before = torch.get_default_dtype()
    elsewhere = torch.get_default_device().type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu") if elsewhere else nullcontext():
            if seed is not None:
                torch.manual_seed(seed)
            yield
    finally:
        torch.set_default_dtype(before)


def device(name: str | torch.device) -> torch.device:
    """Resolve the name of a device, and check that torch can compute on it.

    Args:
        name: of torch (`cpu`, `cuda`, `cuda:1`, `mps`), `gpu` for the machine's accelerator, or `auto` for that one or else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found = next((kind for kind, is_there in there.items() if is_there), None)
    try:
        if name == "gpu" and found is None:
            raise RuntimeError("torch finds neither CUDA nor Metal")
        chosen = torch.device(found or "cpu") if name in ("gpu", "auto") else torch.device(name)
        torch.ones(1, device=chosen).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"torch cannot compute on the device {name!r} here ({reason}); leave it at cpu") from None
    return chosen
