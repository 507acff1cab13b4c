"""Error messages for missing optional packages: the extra that provides them, and the command that installs it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType

ROOT = Path(__file__).parents[1]
"""Folder of the import packages: a clone, or site-packages."""

PACKAGES = ("agents", "baselines", "cfisac_env", "experiments")
"""Import names of this project."""

EXTRAS: Mapping[str, str] = {
    "matplotlib": "render",
    **dict.fromkeys(("clarabel", "cvxpy", "numba", "scipy", "scs"), "baselines"),
    **dict.fromkeys(("safetensors", "sb3_contrib", "stable_baselines3", "torch", "torch_geometric"), "agents"),
    **dict.fromkeys(("docstring_parser", "filelock", "jinja2", "joblib", "jsonschema", "plotly", "rich", "tyro"), "experiments"),
    "tensorboard": "train",
    "ray": "cluster",
    "mobile_env": "bench",
    "minari": "minari",
    "mo_gymnasium": "mo",
    "pettingzoo": "pettingzoo",
    "dash": "play",
    **dict.fromkeys(("lz4", "ormsgpack", "pyarrow", "tensorboardX", "tree"), "rllib"),
    **dict.fromkeys(("tensordict", "torchrl"), "torchrl"),
    "sionna": "sionna",
}  # fmt: skip
"""Import name of an optional package → the smallest extra that provides it."""

_REPORTED = (
    "gymnasium", "numpy", "scipy", "cvxpy", "clarabel", "scs", "numba", "torch", "torch-geometric", "stable-baselines3",
    "sb3-contrib",
)  # fmt: skip

_WIDER: Sequence[tuple[str, Mapping[str, str]]] = (
    ("experiments/commands/train", {"agents": "train", "baselines": "train", "render": "train"}),
    ("experiments/bench/commands", {"agents": "train", "baselines": "train", "render": "train"}),
    ("experiments", {"baselines": "experiments", "render": "experiments"}),
    ("agents", {"baselines": "agents", "experiments": "agents"}),
)
"""By path prefix of the importing file: extras that would leave further packages missing → wider extras."""


def versions() -> dict[str, str]:
    """Return the versions of the suite and of the distributions on which results depend."""
    from cfisac_env import __version__

    found = {"cfisac": __version__}
    for name in _REPORTED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def install_command(extra: str) -> str:
    """Return the `pip` command that adds an extra to this installation: from a clone, from its original source, or from an index."""
    if (ROOT / "pyproject.toml").is_file():
        return f'pip install -e "{ROOT}[{extra}]"'
    try:
        origin = json.loads(importlib.metadata.distribution("cfisac").read_text("direct_url.json") or "{}")
    except importlib.metadata.PackageNotFoundError:
        origin = {}
    if "url" not in origin:
        return f'pip install "cfisac[{extra}]"'
    vcs = origin.get("vcs_info")
    url = origin["url"] if vcs is None else f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    return f'pip install "cfisac[{extra}] @ {url}"'


def missing(module: str, importer: str = "") -> ModuleNotFoundError:
    """Build the error about a missing optional package.

    Args:
        module: its import name, one of `EXTRAS`.
        importer: path below `ROOT` of the importing file.
    """
    extra = EXTRAS[module]
    for beginning, wider in _WIDER:
        if importer.startswith(beginning):
            extra = wider.get(extra, extra)
            break
    return ModuleNotFoundError(
        f"{module} is not installed; the extra {extra!r} brings it: {install_command(extra)}", name=module
    )


class _Finder:
    """Last meta-path finder: names the required extra when a file of this project imports a missing package."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None, or refuse a missing package."""
        if path is None and name in EXTRAS:
            importer = _importer()
            if importer is not None:
                raise missing(name, importer)
        return None


def _importer() -> str | None:
    """Return the path below `ROOT` of the importing file; None if it is not part of this project."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_globals.get("__name__") == "importlib.util":
            return None  # `find_spec` only, no import
        hook = "import" in frame.f_code.co_name  # of a package that replaces `__import__`
        if file != __file__ and "importlib" not in file and not hook:
            path = Path(file)
            ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES
            return path.relative_to(ROOT).as_posix() if ours else None
        frame = frame.f_back
    return None


_FINDER = _Finder()


def watch() -> None:
    """Install the finder that names the extra of missing optional packages."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
