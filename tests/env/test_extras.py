"""A missing package is reported with the extra that brings it, at every door, and a taken import name in one line."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cfisac_env import extras

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OPTIONAL: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
IMPORTED = {"dm-tree": "tree", "sionna-rt": "sionna"}
"""Distributions whose import name is another."""

ONLY_CORE = frozenset(extras.EXTRAS)
LEARNING = ("agents", "train", "sionna", "minari", "rllib", "torchrl")
ONLY_EXPERIMENTS = frozenset(name for name, extra in extras.EXTRAS.items() if extra in LEARNING)
ONLY_TABLES = frozenset({"matplotlib", "joblib", "plotly", "jinja2", "ray"})

ENV = "import cfisac_env, gymnasium as gym\n"
DOORS: dict[str, tuple[str, frozenset[str], str]] = {
    "rendering": (
        ENV + "env = gym.make('CfIsac-v0', M=4, K=2, render_mode='rgb_array')\nenv.reset(seed=0)\nenv.render()",
        ONLY_CORE,
        "render",
    ),
    "an oracle": (
        ENV + "import baselines\nbaselines.make('full-ap').predict(gym.make('CfIsac-v0', M=4, K=2).reset(seed=0)[0])",
        ONLY_CORE,
        "baselines",
    ),
    "an oracle's module": ("import baselines.allocation.ccp", ONLY_CORE, "baselines"),
    "cvxpy": ("import baselines.allocation.reference", ONLY_CORE, "baselines"),
    "activation": (
        ENV + "env = gym.make('CfIsacActivation-v0', M=4, K=2)\nenv.reset(seed=0)\nenv.step(env.action_space.sample())",
        ONLY_CORE,
        "baselines",
    ),
    "hetgnn": ("import agents\nagents.load('hetgnn')", ONLY_CORE, "agents"),
    "ddpg-paper": ("import agents\nagents.load('ddpg-paper', M=30, K=6)", ONLY_CORE, "agents"),
    "an agent's module": ("from agents.hetgnn.policy import HetGnnPolicy", ONLY_CORE, "agents"),
    "the adapter": ("from agents.rl.vec_env import SB3VecEnv", ONLY_CORE, "agents"),
    "tensors": (ENV + "gym.make_vec('CfIsac-v0', num_envs=2, M=4, K=2, backend='torch')", ONLY_CORE, "agents"),
    "parallel agents": ("from cfisac_env.decentralised import CfIsacParallelEnv", ONLY_CORE, "pettingzoo"),
    "a dataset": ("cfisac dataset --M 4 --K 2 --drops 1", ONLY_EXPERIMENTS, "minari"),
    "TorchRL": ("import experiments.examples.torchrl_ppo", frozenset({"tensordict", "torchrl"}), "torchrl"),
    "RLlib": (
        "from experiments.examples.rllib_ppo import *\nconfig(RllibCommand())",
        frozenset({"lz4", "tree"}),
        "rllib",
    ),
    "the command": ("cfisac --help", ONLY_CORE, "experiments"),
    "an agent in a table": ("cfisac compare --M 4 --K 2 --drops 1 --policies hetgnn", ONLY_EXPERIMENTS, "agents"),
    "training hetgnn": ("cfisac train hetgnn", ONLY_EXPERIMENTS, "train"),
    "training ddpg": ("cfisac train ddpg", ONLY_EXPERIMENTS, "train"),
    "ablation": ("cfisac ablate hetgnn", ONLY_EXPERIMENTS, "train"),
    "a cluster": ("cfisac label --sizes 4x2 --drops 1 --ray local", ONLY_TABLES, "cluster"),
    "ray tracing": ("cfisac trace", ONLY_EXPERIMENTS, "sionna"),
    "a table": ("cfisac compare --M 4 --K 2 --drops 1 --policies max-power", ONLY_TABLES, "experiments"),
    "workers": ("cfisac label --sizes 4x2 --drops 1 --workers 2", ONLY_TABLES, "experiments"),
    "playing": ("from experiments.commands.play import Play\nPlay().run({}, None)", frozenset({"dash"}), "play"),
    "the page": (f"cfisac report --results {ROOT / 'docs' / 'results' / 'paper'}", ONLY_TABLES, "experiments"),
}
"""What a user does → what isn't installed, and the extra that the message has to name."""

HIDDEN = """
import contextlib, io, json, sys
from importlib.machinery import PathFinder

missing, doors = json.loads(sys.argv[1])

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in missing else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Hidden if finder is PathFinder else finder for finder in sys.meta_path]
said = {}
for door, what in doors.items():
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            if what.startswith("cfisac"):
                import cfisac
                sys.argv = what.split() + ([] if "--help" in what else ["--out", "out-" + door.replace(" ", "-")])
                status = cfisac.main()
            else:
                status = exec(what, {})
        except Exception as error:
            status = str(error)
    said[door] = status, errors.getvalue()
print(json.dumps(said))
"""


@lru_cache
def said(absent: frozenset[str]) -> dict[str, tuple[Any, str]]:
    """What every door says where some packages are not to be found: status or exception, and what is on stderr."""
    doors = {door: what for door, (what, missing, _) in DOORS.items() if missing == absent}
    with tempfile.TemporaryDirectory() as folder:
        argument = json.dumps([sorted(absent), doors])
        done = subprocess.run(
            [sys.executable, "-c", HIDDEN, argument],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=folder,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    result: dict[str, tuple[Any, str]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("door", DOORS)
def test_every_door_names_the_extra_and_a_command_that_installs_it(door: str) -> None:
    what, absent, extra = DOORS[door]
    status, errors = said(absent)[door]
    if what.startswith("cfisac"):
        assert status == 2
        assert "Traceback" not in errors
    message = errors if what.startswith("cfisac") else status
    found = re.search(r"(\w+) is not installed; the extra '(\w+)' brings it: (pip install -e \"[^\"]*\")", message)
    assert found is not None, message
    assert found[1] in absent
    assert (found[2], found[3]) == (extra, f'pip install -e "{ROOT}[{extra}]"')


def test_without_extras_the_environment_works_and_others_look_for_packages_as_ever(tmp_path: Path) -> None:
    script = ENV + (
        "env = gym.make('CfIsac-v0', M=4, K=2)\nenv.reset(seed=0)\nenv.step(env.action_space.sample())\n"
        "gym.make_vec('CfIsacMobile-v0', num_envs=2, M=4, K=2).reset(seed=0)\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "try:\n    import torch\nexcept ModuleNotFoundError as error:\n    assert str(error) == \"No module named 'torch'\", error\n"
        "print('done')\n"
    )
    code = (
        HIDDEN.replace("missing, doors = json.loads(sys.argv[1])", f"missing, doors = {sorted(ONLY_CORE)!r}, {{}}")
        + script
    )
    done = python(code, ROOT, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("done\n")


def test_the_command_without_agents_imports_all_but_what_is_about_learning(tmp_path: Path) -> None:
    code = HIDDEN.replace(
        "missing, doors = json.loads(sys.argv[1])", f"missing, doors = {sorted(ONLY_EXPERIMENTS)!r}, {{}}"
    )
    code += (
        "import importlib, pkgutil, experiments\n"
        "failed = []\n"
        "for module in pkgutil.walk_packages(experiments.__path__, 'experiments.'):\n"
        "    try:\n        importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError:\n        failed.append(module.name)\n"
        "print(*failed)\n"
    )
    done = python(code, ROOT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    learning = {
        "bench.ablation",
        "bench.cards",
        "bench.decisions",
        "bench.mobile_card",
        "bench.tracking",
        "bench.tracks",
    }
    learning |= {"curves", "hetgnn", "labelling"}
    learning |= {"bench.doors", "datasets", "examples.cloning", "examples.ppo", "examples.torchrl_ppo"}
    assert set(done.stdout.split("\n")[1].split()) == {f"experiments.{name}" for name in learning}


def test_every_optional_requirement_has_an_extra_that_brings_it() -> None:
    direct: dict[str, set[str]] = {}
    for extra, requirements in OPTIONAL.items():
        for requirement in requirements:
            name = re.split(r"[\[<>=]", requirement)[0]
            if name != "cfisac" and extra not in {"dev", "docs"}:
                direct.setdefault(IMPORTED.get(name, name.replace("-", "_")), set()).add(extra)
    assert direct.keys() == extras.EXTRAS.keys()
    for module, extra in extras.EXTRAS.items():
        assert extra in direct[module], module
    widened = {wider for _, changes in extras._WIDER for wider in changes.values()}
    assert widened <= OPTIONAL.keys()


def test_the_pinned_versions_are_allowed_by_every_requirement() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    lines = [*PROJECT["project"]["dependencies"], *itertools.chain.from_iterable(OPTIONAL.values())]
    requirements = [Requirement(line) for line in lines]
    unpinned = {one.name for one in requirements if canonicalize_name(one.name) not in pinned}
    assert unpinned <= {"cfisac", "sionna-rt"}
    for one in requirements:
        if one.name not in unpinned:
            assert one.specifier.contains(pinned[canonicalize_name(one.name)]), one


ASKING = """
import builtins, importlib.util, pathlib, sys
from cfisac_env import extras

def run(code, file):
    names = {}
    try:
        exec(compile(code, str(file), "exec"), names)
    except ModuleNotFoundError as error:
        print(error)
    return names

extras.EXTRAS = {"no_such_package": "render"}
own, other = extras.ROOT / "experiments" / "own.py", extras.ROOT / "elsewhere.py"
print(run("import importlib.util\\nfound = importlib.util.find_spec('no_such_package')", own)["found"])
run("import no_such_package", own)
run("import no_such_package", other)
original = builtins.__import__
def hooked_import(*arguments, **options):
    return original(*arguments, **options)
builtins.__import__ = hooked_import
run("import no_such_package", own)
"""


def test_asking_whether_a_package_is_there_is_no_import(tmp_path: Path) -> None:
    done = python(ASKING, ROOT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked, imported, elsewhere, hooked = done.stdout.splitlines()
    assert asked == "None"
    assert "the extra 'experiments' brings it" in imported
    assert elsewhere == "No module named 'no_such_package'"
    assert hooked == imported


@pytest.mark.parametrize(
    ("direct_url", "command"),
    [
        (None, 'pip install "cfisac[render]"'),
        ({"url": "file:///src/cfisac", "dir_info": {}}, 'pip install "cfisac[render] @ file:///src/cfisac"'),
        (
            {"url": "https://example.org/c.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            'pip install "cfisac[render] @ git+https://example.org/c.git@abc"',
        ),
    ],
)
def test_the_command_installs_from_where_it_was_installed_from(
    direct_url: Any, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if direct_url is None else json.dumps(direct_url)

    monkeypatch.setattr(extras, "ROOT", tmp_path)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed())
    assert extras.install_command("render") == command


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "cfisac.py", *extras.PACKAGES):
        (source / name).symlink_to(ROOT / name)
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=source, capture_output=True, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_packages_but_the_benches(wheel: Path) -> None:
    wanted = {
        file.relative_to(ROOT).as_posix()
        for name in extras.PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.endswith((".nbi", ".nbc"))
        if not file.is_relative_to(ROOT / "experiments" / "bench")
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted | {"cfisac.py"}


def install(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def dummy(name: str, folder: Path) -> Path:
    """A wheel of another project that owns an import name of this one."""
    path = folder / f"other_{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        info = f"other_{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: other-{name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/top_level.txt", f"{name}\n")
        archive.writestr(f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/RECORD,,\n")
    return path


def python(code: str, *path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


COMMAND = "import sys, cfisac\nsys.argv = ['cfisac', 'compare', '--help']\nsys.exit(cfisac.main())"


@pytest.mark.parametrize("how", ["overwritten", "in front"])
def test_import_names_that_other_distributions_took_are_said_in_one_line(wheel: Path, how: str, tmp_path: Path) -> None:
    site, other = tmp_path / "site", tmp_path / "other"
    install(wheel, site)
    names = ("agents", "baselines", "experiments")
    for name in names:
        install(dummy(name, tmp_path), site if how == "overwritten" else other)
    path = [site] if how == "overwritten" else [other, site]
    line = ", ".join(f"`import {name}` gives that of other-{name}" for name in names)
    line += " instead of cfisac's, because both own that import name: install cfisac in an environment of its own"
    done = python(COMMAND, *path, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cfisac: {line}\n")
    done = python("import cfisac_env", *path, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count(f"UserWarning: {line}") == 1


def test_a_folder_of_ones_own_that_takes_an_import_name_is_said_too(wheel: Path, tmp_path: Path) -> None:
    install(wheel, tmp_path / "site")
    (tmp_path / "agents.py").write_text("")
    done = python(COMMAND, tmp_path / "site", cwd=tmp_path)
    assert f"`import agents` gives {tmp_path / 'agents.py'} instead of cfisac's" in done.stderr


def test_an_installation_alone_says_nothing(wheel: Path, tmp_path: Path) -> None:
    install(wheel, tmp_path / "site")
    done = python("import cfisac_env, agents, baselines, experiments", tmp_path / "site", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert python(COMMAND, tmp_path / "site", cwd=tmp_path).returncode == 0


def test_commands_that_the_wheel_leaves_out_say_where_they_are_available(wheel: Path, tmp_path: Path) -> None:
    install(wheel, tmp_path / "site")
    for group in ("bench", "ablate"):
        code = COMMAND.replace("'compare', '--help'", f"'{group}', 'any'")
        done = python(code, tmp_path / "site", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"cfisac: cfisac {group} runs from a clone of the repository and isn't in the wheel: "
            'clone it and pip install -e ".[all]"\n'
        )
    done = python(COMMAND.replace("'compare', ", ""), tmp_path / "site", cwd=tmp_path)
    assert done.returncode == 0
    assert "from a clone of the repository" in " ".join(done.stdout.replace("│", " ").split())


def test_an_editable_installation_is_a_path_that_type_checkers_follow(tmp_path: Path) -> None:
    build = "import sys, setuptools.build_meta as b; b.build_editable(sys.argv[1])"
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "cfisac.py", *extras.PACKAGES):
        (source / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, check=True)
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        (pth,) = (name for name in archive.namelist() if name.endswith(".pth"))
        assert Path(archive.read(pth).decode().strip()) == source
        assert not [name for name in archive.namelist() if "finder" in name]
