"""`mobile-value` from the shipped parameters or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.coverage import trained_fields
from agents.mobile import storage
from agents.mobile.policy import MobileValuePolicy
from baselines.foresight.futures import Laws
from cfisac_env import SystemConfig


def load(*, weights: str | Path | None = None, device: str = "cpu", **options: Any) -> MobileValuePolicy:
    """Load the agent.

    Args:
        weights: file written by a training run; None takes the shipped one.
        device: only `cpu`.
        options: fields of `Laws`, the assumed laws of motion and shadowing; `M` and `K`, as for every policy.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or another device.
    """
    if device != "cpu":
        raise ValueError(f"mobile-value decides on the CPU, got the device {device!r}; leave it out")
    sizes = {name: options.pop(name) for name in ("M", "K") if name in options}
    path = storage.SHIPPED if weights is None else Path(weights)
    value, about, _ = storage.read(path)
    trained = trained_fields(SystemConfig(**about["config"]), every_size=True)
    return MobileValuePolicy(value, laws=Laws(**options), trained=[trained], digest=storage.digest(path), **sizes)
