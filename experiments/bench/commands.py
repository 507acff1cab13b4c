"""`cfisac bench …` and `cfisac ablate …`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from agents.hetgnn.config import TrainingConfig
from cfisac_env import SystemConfig, seeds
from experiments.bench.cases import parse_case
from experiments.commands.common import (
    GOES_ON,
    Command,
    Count,
    Natural,
    Range,
    Seconds,
    Seed,
    Threads,
    announce,
    open_option,
    progress,
)  # fmt: skip
from experiments.sizes import configurations, parse_size


@dataclass(frozen=True)
class BenchAllocator(Command):
    """Time the compiled allocator against Clarabel and cvxpy, or check that they agree; writes JSON and Markdown."""

    configured: ClassVar[bool] = True

    sizes: tuple[str, ...] = ("30x6", "50x10", "50x20", "100x40")
    """APs x users."""
    drops: Count = 5
    """Number of drops of each size."""
    sets: Count = 20
    """Number of small sets of each drop, such as a search solves."""
    reference_sets: Natural = 1
    """Number of sets of each drop that cvxpy solves, too, at most."""
    agreement: Natural = 0
    """Number of random instances to solve with the compiled allocator and with cvxpy, whose answers are compared instead of timed."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments.bench import agreement, allocator
        from experiments.results import Result, Table

        if self.agreement:
            if fields:
                raise ValueError(f"--agreement draws its own configurations; leave out {', '.join(sorted(fields))}")
            with progress() as bar:
                task = bar.add_task("solving", total=self.agreement)
                rows = agreement.run(self.agreement, self.seed, self.out, lambda: bar.advance(task))
            agreement.result(rows, self.seed).publish(self.out, console)
            return
        pairs = [parse_size(text) for text in self.sizes]
        with progress() as bar:
            task = bar.add_task("timing", total=len(pairs) * len(allocator.KINDS) * self.drops)
            measures = allocator.measure(
                pairs, self.drops, self.sets, self.reference_sets, self.seed, fields, lambda: bar.advance(task)
            )
        content = {"seed": self.seed, "drops": self.drops, "threads": 1, "fields": fields, "rows": measures}
        Result("allocator", [Table(allocator.COLUMNS, measures)], content).publish(self.out, console)


@dataclass(frozen=True)
class BenchEnv(Command):
    """Measure decisions a second of the environments, beside mobile-env where it is installed; writes JSON and Markdown."""

    configured: ClassVar[bool] = True

    sizes: tuple[str, ...] = ("50x10", "30x6")
    """APs x users."""
    environments: Count = 1024
    """Number of environments in the vector environment."""
    threads: Count = 2
    """Number of threads of the vector environment."""
    seconds: Seconds = 3.0
    """Time in s for each rate."""
    scaling: bool = True
    """Measure how the cost grows with the number of environments and with the size, too."""
    seed: Seed = seeds.TEST
    """Seed of drops and actions."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments.bench import environment
        from experiments.results import Result

        if given := sorted({"M", "K"} & fields.keys()):
            raise ValueError(f"--{given[0]} is in --sizes, such as --sizes 50x10 30x6")
        configs = [SystemConfig(M, K, **fields) for M, K in map(parse_size, self.sizes)]
        with progress() as bar:
            bar.add_task("timing", total=None)
            tables, content = environment.measure(
                configs, self.environments, self.threads, self.seed, self.seconds, scaling_too=self.scaling
            )
        Result("env", tables, {"seed": self.seed, "fields": fields, **content}).publish(self.out, console)


@dataclass(frozen=True)
class BenchScale(Command):
    """Time the allocator with every AP on at up to a hundred thousand APs, with memory and certified gaps; writes JSON and Markdown."""

    presets: tuple[str, ...] = ("urban", "paper", "high-rate")
    """Names of presets."""
    sizes: tuple[str, ...] = ("200x10", "1000x10", "1000x20", "10000x20", "100000x20")
    """APs x users."""
    drops: Count = 3
    """Number of drops of each preset and size."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments.bench import scale
        from experiments.results import Result, Table

        pairs = [parse_size(text) for text in self.sizes]
        with progress() as bar:
            task = bar.add_task("timing", total=len(self.presets) * len(pairs) * self.drops)
            rows = list(scale.measure(self.presets, pairs, self.drops, self.seed, lambda: bar.advance(task)))
        content = {"seed": self.seed, "drops": self.drops, "threads": 1, "rows": rows}
        Result("scale", [Table(scale.COLUMNS, rows)], content).publish(self.out, console)


@dataclass(frozen=True)
class BenchSelection(Command):
    """Prove optima, and measure gaps and times of the heuristics; a killed run goes on where it was."""

    kept: ClassVar[str] = GOES_ON

    cases: tuple[str, ...] = (
        "paper:30x6:2:100", "paper:50x10:2:100", "paper:50x20:60:20", "high-rate:30x6:60:8", "high-rate:50x10:60:4",
        "precise-sensing:30x6:60:20", "precise-sensing:50x10:60:20", "urban:30x6:60:20", "urban:50x10:30:20", "urban:50x20:60:20",
        "paper:100x40:60:2",
    )  # fmt: skip
    """Cases as preset:APs x users:seconds:drops."""
    elimination: Annotated[str | None, tyro.conf.arg(metavar="MxK|None")] = "50x20"
    """Size at which greedy elimination is timed against the same on cvxpy; None to leave it out."""
    elimination_drops: Count = 3
    """Number of drops of that size."""
    elimination_solves: Annotated[int, Range(2, 1_000_000)] = 8
    """Number of cvxpy solves on each of these drops, from which the others are extrapolated."""
    seed: Seed = seeds.TEST
    """Seed of the first drop of each case; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments.bench import selection

        cases = [parse_case(text, "preset:MxK:seconds:drops") for text in self.cases]
        size = None if self.elimination is None else parse_size(self.elimination)
        with progress() as bar:
            task = bar.add_task("searching", total=sum(case.drops for case in cases))
            drops = selection.run(
                cases, self.seed, self.out, lambda label: bar.update(task, advance=1, description=label)
            )
        timed = None
        if size is not None:
            timed = selection.elimination(*size, self.elimination_drops, self.elimination_solves, self.seed)
        selection.result(drops, self.seed, timed).publish(self.out, console)
        for one in [] if timed is None else timed["drops"]:
            console.print(
                f"elimination at {self.elimination}, seed {one['seed']}: {one['compiled_s']:.2f} s compiled; on cvxpy "
                f"{one['cvxpy_s']:.0f} s by {one['solves_timed']} of {one['solves_of_plain_elimination']} solves: "
                f"{one['ratio']:.0f} times as long",
                soft_wrap=True,
            )


@dataclass(frozen=True)
class BenchDecisions(Command):
    """Hold grpo and ddpg against the rule that learns nothing, at several budgets and sizes; writes JSON and Markdown."""

    cases: tuple[str, ...] = (
        "paper:20x5:50", "paper:30x6:50", "paper:30x10:50", "paper:50x10:50", "paper:50x20:25", "paper:100x20:10", "urban:30x6:50",
        "urban:50x10:50", "urban:50x20:25",
    )  # fmt: skip
    """preset:APs x users:drops."""
    weights: Annotated[tuple[Path, ...], open_option("FILE [FILE ...]")] = ()
    """Weights of agents trained alike, such as best.safetensors of runs of several seeds; by default the shipped ones."""
    seed: Seed = seeds.TEST
    """Seed of the first drop of each case; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        import torch

        from experiments.bench import decisions
        from experiments.results import Result, Table

        torch.set_num_threads(1)
        cases = [parse_case(text, "preset:MxK:drops") for text in self.cases]
        names = [name for name, makers in decisions.policies(self.weights).items() for _ in makers]
        rows: list[decisions.Row] = []
        with progress() as bar:
            task = bar.add_task("deciding", total=len(names) * sum(case.drops for case in cases))

            def step(name: str) -> None:
                bar.update(task, advance=1, description=name)

            for case in cases:
                rows += decisions.measure(case, self.weights, self.seed, step)
        content = {"seed": self.seed, "threads": 1, "weights": [str(path) for path in self.weights], "rows": rows}
        Result("decisions", [Table(decisions.COLUMNS, rows)], content).publish(self.out, console)


@dataclass(frozen=True)
class BenchMobile(Command):
    """Compare policies over time at 0.5, 2 and 8 J a switch-on and 0, 2 and 5 wake-up steps; writes grid.json, .csv and .md."""

    configured: ClassVar[bool] = True
    kept: ClassVar[str] = GOES_ON

    policies: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Names of policies and agents, with options as in predictive:hold=6; by default rules, look-ahead, the learned agent, and, where
    there are more episodes, both with wrong laws of motion and shadowing."""
    episodes: Natural = 8
    """Number of episodes of each pair of switching energy and wake-up time; 0 for the two below alone."""
    headline_episodes: Count = 24
    """Number of episodes at 8 J without wake-up time and at 2 J with two steps."""
    seed: Seed = seeds.TEST
    """Seed of the first episode; the others follow."""
    workers: Count = 1
    """Number of processes."""
    out: Path = Path("runs/grid")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Play, write, print."""
        from experiments.bench import mobile_grid

        policies = tuple(dict.fromkeys(self.policies or mobile_grid.POLICIES))
        mismatched = () if self.policies else mobile_grid.MISMATCHED
        with progress() as bar:
            task = bar.add_task("playing", total=None)
            cells = mobile_grid.play(
                fields, policies, mismatched, self.episodes, self.headline_episodes, self.seed, workers=self.workers,
                folder=self.out, step=lambda label: bar.update(task, advance=1, description=label),
            )  # fmt: skip
        written = mobile_grid.result(cells).write(self.out)
        mobile_grid.overview(cells).show(console, f"grid.md in {self.out}")
        announce(console, written)


@dataclass(frozen=True)
class BenchCausal(Command):
    """Bound the mean energy of causal policies over episodes with switching energy, on up to ten APs; writes causal.json, .csv and .md."""

    configured: ClassVar[bool] = True

    switching_energy_j: Annotated[float, Range(0.0, 1e9)] = 8.0
    """Energy of switching an AP on in J."""
    policies: tuple[str, ...] = ("hysteresis", "predictive", "mobile-value")
    """Names of causal policies that play the same episodes, with options as in predictive:hold=6; their penalties are a control variate."""
    episodes: Count = 24
    """Number of episodes."""
    seed: Seed = seeds.TEST
    """Seed of the first episode; the others follow."""
    futures: Count = 16
    """Number of futures for the value of a set of APs."""
    samples: Count = 8
    """Number of the target's next moves over which that value is averaged."""
    scale: Annotated[float, Range(0.0, 10.0)] = 0.5
    """Factor of the penalties; every one gives a bound."""
    out: Path = Path("runs/causal")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Bound, play, write, print."""
        from experiments.bench import causal

        with progress() as bar:
            task = bar.add_task("bounding", total=self.episodes)
            result = causal.run(
                fields | {"switching_energy_j": self.switching_energy_j}, self.policies, self.episodes, self.seed,
                futures=self.futures, samples=self.samples, scale=self.scale, step=lambda: bar.advance(task),
            )  # fmt: skip
        result.publish(self.out, console)


@dataclass(frozen=True)
class AblateHetGnn(Command):
    """Train small variants of the network that differ in one thing each, and measure them on validation drops."""

    kept: ClassVar[str] = GOES_ON

    variants: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Names of variants; by default all. An unknown one lists them."""
    labels: Path = Path("runs/labels/train")
    """Folder of labels by local-search."""
    other_labels: Path = Path("runs/labels/modified-bb")
    """Folder of labels by modified-bb, for the variant that learns from them."""
    validation: Path = Path("runs/labels/validation")
    """Folder of labels by local-search, of other seeds."""
    sizes: tuple[str, ...] = ("30x6", "30x10", "50x10")
    """APs x users to train and measure on."""
    drops: Count = 300
    """Number of labels of each size to train on."""
    epochs: Count = 8
    """Number of epochs of every variant."""
    seed: Seed = 0
    """Seed of every variant."""
    threads: Annotated[Threads | None, open_option("INT")] = None
    """Number of torch's threads; by default torch's own choice."""
    out: Path = Path("runs/ablation")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Train, measure, write, print."""
        import torch

        from experiments import hetgnn
        from experiments.bench import ablation
        from experiments.results import Result, Table

        names = self.variants or tuple(ablation.VARIANTS)
        ablation.check(names)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        base = TrainingConfig(epochs=self.epochs, patience=self.epochs, edges=8192, seed=self.seed)
        sizes = [(config.M, config.K) for config in configurations(("paper",), self.sizes, {})]

        def read(folder: Path, drops: int | None) -> list[Any]:
            shards = hetgnn.read(
                folder,
                ("paper",),
                drops,
                lambda line: console.print(f"skipped: {line}", style="yellow", soft_wrap=True),
            )
            return [shard for shard in shards if (shard.config.M, shard.config.K) in sizes]

        labels = {"local-search": read(self.labels, self.drops)}
        if "labels of modified-bb" in names:
            labels["modified-bb"] = read(self.other_labels, self.drops)
        validation = read(self.validation, None)
        for shards in labels.values():
            hetgnn.check_seeds(shards, validation)
        measures = []
        for one in ablation.run(names, labels, validation, base, self.out):
            measures.append(one)
            console.print(
                f"{one.variant}: names {one.hits:.1%}, hetgnn {one.own_gap:.2%}, prefix {one.prefix_gap:.2%} above"
            )
        content = {
            "labels": {oracle: hetgnn.describe(shards) for oracle, shards in labels.items()},
            "validation": hetgnn.describe(validation),
            "measures": measures,
        }
        Result("ablation", [Table(ablation.COLUMNS, measures)], content).publish(self.out, console)


BENCH: Mapping[str, type[Command]] = {
    "allocator": BenchAllocator, "causal": BenchCausal, "decisions": BenchDecisions, "env": BenchEnv, "mobile": BenchMobile,
    "scale": BenchScale, "selection": BenchSelection,
}  # fmt: skip
"""Second words of `cfisac bench`."""

ABLATE: Mapping[str, type[Command]] = {"hetgnn": AblateHetGnn}
"""Second words of `cfisac ablate`."""
