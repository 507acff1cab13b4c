"""Array back end of vector environments: NumPy, or torch on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cfisac_env.types import Array


@dataclass(frozen=True)
class Backend:
    """Array library and device."""

    name: str  # "numpy" or "torch"
    device: Any  # "cpu" or a `torch.device`

    @property
    def xp(self) -> Any:
        """Array API namespace."""
        if self.name == "numpy":
            return np
        import array_api_compat.torch

        return array_api_compat.torch

    def zeros(self, shape: tuple[int, ...], dtype: str = "float64") -> Array:
        """Create an array of zeros."""
        xp = self.xp
        return xp.zeros(shape, dtype=getattr(xp, dtype), device=self.device)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Create an uninitialised array."""
        xp = self.xp
        return xp.empty(shape, dtype=getattr(xp, dtype), device=self.device)

    def array(self, values: Any, dtype: str | None = None) -> Array:
        """Convert `values`, without a copy where possible."""
        xp = self.xp
        if self.name == "torch" and isinstance(values, np.ndarray) and not values.flags.writeable:
            values = values.copy()  # torch has no read-only tensors
        return xp.asarray(values, dtype=None if dtype is None else getattr(xp, dtype), device=self.device)


def backend(name: str, device: Any) -> Backend:
    """Select a back end and device.

    Args:
        name: `numpy` or `torch`.
        device: torch device; None is the CPU.

    Raises:
        ValueError: an unknown name or unavailable device.
        ImportError: torch isn't installed.
    """
    if name not in ("numpy", "torch"):
        raise ValueError(f"backend must be 'numpy' or 'torch', got {name!r}")
    if name == "numpy":
        if device not in (None, "cpu"):
            raise ValueError(
                f"device={device!r}: NumPy computes on the processor; give backend='torch' for other devices"
            )
        return Backend(name, "cpu")
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"backend='torch' needs torch: {error}") from error
    try:
        there = torch.device("cpu" if device is None else device)
        torch.empty(0, device=there)
    except (RuntimeError, AssertionError, TypeError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            found.append("mps")
        raise ValueError(f"there is no device {device!r}; this machine has {', '.join(found)}") from error
    return Backend(name, there)
