"""Learning curves of training runs: validations, their spread over seeds, and the cost of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from agents import tensorfile
from agents.rl import storage
from agents.rl.parameters import FAMILY
from experiments import results
from experiments.results import Column, Table, percent

CURVE = "curve.json"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def read(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the curves of runs, in order of algorithm, size and seed.

    Raises:
        FileNotFoundError: a folder holds no run.
        ValueError: no folder is given, or a curve cannot be read.
    """
    if not folders:
        raise ValueError("name the folders of one or more runs, e.g. `cfisac curves runs/ddpg-30x6-seed*`")
    runs = []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        path = folder / CURVE
        if not path.is_file():
            raise FileNotFoundError(
                f"no {CURVE} in {folder}; `cfisac train ddpg` and the other algorithms write one into the folder of a run"
            )
        content = tensorfile.read_json(path, storage.CURVE)
        curve = [{k: np.nan if v is None else v for k, v in row.items()} for row in content["curve"]]
        try:
            runs.append({"run": content["run"], "curve": curve})
            table(runs[-1:]).cells()  # reads every entry that will be used
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read as a learning curve ({error}); train again") from None
    return sorted(runs, key=lambda r: (*_group(r), r["run"]["seed"]))


@dataclass(frozen=True)
class Line:
    """Row of a run: its last validation, and the one with the best reward after learning began."""

    run: dict[str, Any]
    last: dict[str, Any]
    best: dict[str, Any]


TABLE: tuple[Column[Line], ...] = (
    Column("algorithm", lambda line: line.run["algorithm"]),
    Column("M, K", lambda line: f"{line.run['config']['M']}, {line.run['config']['K']}"),
    Column("seed", lambda line: str(line.run["seed"])),
    Column("environment steps", lambda line: f"{line.last['steps']:.0f}", rank=2),
    Column("seconds", lambda line: f"{line.last['seconds']:.0f}", rank=2),
    Column("best at", lambda line: f"{line.best['steps']:.0f}", rank=1),
    Column("feasible", lambda line: percent(line.best["feasible"], 0)),
    Column("gap", lambda line: percent(line.best["gap"], 1), "no validation drop is served"),
    Column("active APs", lambda line: f"{line.best['active_aps']:.1f}", rank=1),
)


def table(runs: Sequence[dict[str, Any]]) -> Table[Line]:
    """Return one row per run."""
    lines = []
    for entry in runs:
        run, curve = entry["run"], entry["curve"]
        first = FAMILY[run["algorithm"]](**run["parameters"]).learns_from
        best = max([row for row in curve if row["steps"] >= first] or curve[-1:], key=lambda row: row["reward"])
        lines.append(Line(run, curve[-1], best))
    return Table(TABLE, lines)


def figure(runs: Sequence[dict[str, Any]]) -> Figure:
    """Plot feasible share and gap against steps: median and range over seeds."""
    algorithms = list(dict.fromkeys(entry["run"]["algorithm"] for entry in runs))
    picture = results.canvas(9.0, 3.0 * len(algorithms))
    axes = picture.subplots(len(algorithms), 2, squeeze=False)
    for row, algorithm in zip(axes, algorithms, strict=True):
        groups = list(dict.fromkeys(_group(entry) for entry in runs if entry["run"]["algorithm"] == algorithm))
        for colour, group in zip(_COLOURS * len(groups), groups, strict=False):
            curves = [entry["curve"] for entry in runs if _group(entry) == group]
            for axis, key in zip(row, ("feasible", "gap"), strict=True):
                length = min(map(len, curves))
                steps = np.array([point["steps"] for point in curves[0][:length]])
                values = 100 * np.array([[point[key] for point in curve[:length]] for curve in curves], dtype=float)
                known = np.isfinite(values).any(0)
                if not known.any():
                    continue
                shown = values[:, known]
                label = f"M={group[1]}, K={group[2]} ({len(curves)} seed{'s' if len(curves) > 1 else ''})"
                axis.plot(steps[known], np.nanmedian(shown, 0), color=colour, label=label)
                axis.fill_between(
                    steps[known], np.nanmin(shown, 0), np.nanmax(shown, 0), color=colour, alpha=0.2, linewidth=0
                )
        for axis, name in zip(
            row, ("drops with every requirement met, %", "gap to local-search where met, %"), strict=True
        ):
            axis.set(title=algorithm, xlabel="environment steps", ylabel=name)
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.grid(alpha=0.3)
        row[1].set_yscale("log")
        row[0].set_ylim(-3, 103)
        row[0].legend(fontsize=7)
    return picture


def write(folder: Path, runs: Sequence[dict[str, Any]]) -> list[Path]:
    """Write runs.md, curves.png, curves.svg and curves.json."""
    picture = figure(runs)
    contents = {
        "runs.md": table(runs).markdown(),
        "curves.png": picture,
        "curves.svg": picture,
        "curves.json": {"runs": list(runs)},
    }
    return results.write(folder, contents)


def _group(entry: dict[str, Any]) -> tuple[str, int, int]:
    run = entry["run"]
    return run["algorithm"], run["config"]["M"], run["config"]["K"]
