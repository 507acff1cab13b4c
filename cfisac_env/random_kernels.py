"""Compiled random number generation for many NumPy generators at once, without the interpreter lock.

It calls the exported C functions behind `Generator.random`, `.standard_normal` and `.standard_exponential`, so the numbers are
bit-identical to NumPy's. Only `cfisac_env.compiled` imports this module, because it needs numba.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from llvmlite import binding
from numba import types

from cfisac_env.jit import compiled
from cfisac_env.types import Array

_PREFIX = "random_standard_"
_SIGNATURE = types.void(types.uintp, types.intp, types.CPointer(types.float64))


def _exported(distribution: str) -> Any:
    """Return NumPy's function that fills an array from a distribution; ImportError if this NumPy doesn't export it."""
    name = f"{_PREFIX}{distribution}_fill"
    library = ctypes.CDLL(importlib.import_module("numpy.random._generator").__file__)
    try:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    except AttributeError as error:
        raise ImportError(f"this NumPy doesn't export {name}") from error
    binding.add_symbol(name, address)
    return types.ExternalFunction(name, _SIGNATURE)


_uniform, _normal, _exponential = (_exported(name) for name in ("uniform", "normal", "exponential"))


@compiled("(uintp[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1])", exact=True)
def fill(streams: Array, uniform: Array, normal: Array, exponential: Array) -> None:
    """Fill the rows of the three arrays in turn, row b from the `bitgen_t` at address `streams[b]`."""
    for b in range(streams.size):
        _uniform(streams[b], uniform.shape[1], uniform[b].ctypes)
        _normal(streams[b], normal.shape[1], normal[b].ctypes)
        if exponential.shape[1] > 0:
            _exponential(streams[b], exponential.shape[1], exponential[b].ctypes)
