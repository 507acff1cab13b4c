"""Detection of import-name conflicts: other distributions also provide `agents`, `baselines` or `experiments`."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path

from cfisac_env.extras import PACKAGES, ROOT

WHY = "instead of cfisac's, because both own that import name: install cfisac in an environment of its own"


def line() -> str | None:
    """Describe all import-name conflicts and their remedy in one line; None without any."""
    installed = _installed()
    taken = {name: owner for name in PACKAGES if (owner := _taken(name, installed)) is not None}
    return ", ".join(f"`import {name}` gives {owner}" for name, owner in taken.items()) + f" {WHY}" if taken else None


def warn() -> None:
    """Warn about import-name conflicts."""
    if (message := line()) is not None:
        warnings.warn(message, stacklevel=3)


def _installed() -> Mapping[str, importlib.metadata.FileHash]:
    """Return the hashes of this distribution's installed files by path below `ROOT`; empty in a clone."""
    if (ROOT / "pyproject.toml").is_file():
        return {}
    try:
        files = importlib.metadata.distribution("cfisac").files or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {file.as_posix(): file.hash for file in files if file.hash is not None}


def _taken(name: str, installed: Mapping[str, importlib.metadata.FileHash]) -> str | None:
    """Return the owner of an import name if it is not this project, without importing it."""
    ours, key = ROOT / name / "__init__.py", f"{name}/__init__.py"
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin)
    if found == ours and (key not in installed or _digest(found, installed[key].mode) == installed[key].value):
        return None
    owners = importlib.metadata.packages_distributions().get(name, [])
    there = {owner for owner in owners if importlib.metadata.distribution(owner).locate_file(key) == found} - {"cfisac"}
    return f"that of {' or '.join(sorted(there))}" if there else str(found)


def _digest(file: Path, mode: str) -> str:
    return base64.urlsafe_b64encode(hashlib.new(mode, file.read_bytes()).digest()).rstrip(b"=").decode()
