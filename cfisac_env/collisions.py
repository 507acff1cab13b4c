"""Whether `agents`, `baselines` and `experiments` are still this project's: other distributions own such import names, too."""

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
    """One line that names every import name of this project that something else has taken, and what to do; None if none is."""
    installed = _installed()
    taken = {name: owner for name in PACKAGES if (owner := _taken(name, installed)) is not None}
    return ", ".join(f"`import {name}` gives {owner}" for name, owner in taken.items()) + f" {WHY}" if taken else None


def warn() -> None:
    """Warn with that line."""
    if (said := line()) is not None:
        warnings.warn(said, stacklevel=3)


def _installed() -> Mapping[str, importlib.metadata.FileHash]:
    """What this project's distribution has written, by path below `ROOT`; nothing in a clone."""
    if (ROOT / "pyproject.toml").is_file():
        return {}
    try:
        files = importlib.metadata.distribution("cfisac").files or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {file.as_posix(): file.hash for file in files if file.hash is not None}


def _taken(name: str, installed: Mapping[str, importlib.metadata.FileHash]) -> str | None:
    """Whose an import name is now, if it isn't this project's; nothing is imported for that."""
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
