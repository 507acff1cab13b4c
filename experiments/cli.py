"""The `cfisac` command."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import baselines
from cfisac_env import PRESETS, Scenario, SystemConfig


def _optional_fields() -> type:
    """`SystemConfig` with every field left open, so that a preset fills what isn't given."""
    fields = [
        (spec.name, cast(Any, {"int": int, "float": float, "str": str}.get(str(spec.type), float)) | None, None)
        for spec in dataclasses.fields(SystemConfig)
    ]
    return dataclasses.make_dataclass("ConfigFields", fields, namespace={"__doc__": "Fields of SystemConfig."})


ConfigFields = _optional_fields()


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare policies on the same drops; writes compare.json, compare.csv and compare.png."""

    policies: tuple[str, ...] = tuple(baselines.POLICIES)
    """Names of the policies."""
    drops: int = 20
    """Number of random drops."""
    seed: int = 1_000_000
    """Seed of the first drop; the others follow."""
    drops_file: Path | None = None
    """Play these drops (written by Scenario.save) instead of random ones."""
    reference: str | None = None
    """Policy that paired differences are taken to; by default the cheapest that is feasible everywhere."""
    out: Path = Path("runs/compare")
    """Folder of the results."""

    def run(self, config: SystemConfig, console: Console) -> None:
        """Decide, print, write."""
        from experiments import compare, outputs

        if self.drops < 1:
            raise ValueError(f"--drops must be 1 or more, got {self.drops}")
        drops: int | Scenario = self.drops
        if self.drops_file is not None:
            drops = Scenario.load(self.drops_file).batch()
            config, count = drops.config, len(drops)
        else:
            count = self.drops
        policies = compare.build(self.policies, config)
        with _progress(console) as progress:
            task = progress.add_task("deciding", total=count * len(policies))

            def step(name: str) -> None:
                progress.update(task, advance=1, description=name)

            comparison = compare.run(config, policies, drops, self.seed, step)
        rows = compare.summarise(comparison, self.reference)
        console.print(outputs.table(comparison, rows))
        for path in outputs.write(self.out, comparison, rows):
            console.print(f"wrote {path}")


@dataclasses.dataclass(frozen=True)
class Presets:
    """Measure every preset: drops served, active APs, what binds, and whether the reward's penalties are exact."""

    drops: int = 200
    """Number of random drops a preset."""
    seed: int = 1_000_000
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/presets")
    """Folder of the results."""

    def run(self, config: SystemConfig, console: Console) -> None:
        """Measure, print, write."""
        from experiments import files, presets

        measures = []
        with _progress(console) as progress:
            for name in PRESETS:
                task = progress.add_task(name, total=self.drops)
                chosen = SystemConfig(config.M, config.K, preset=name)
                measures.append(presets.measure(chosen, self.drops, self.seed, partial(progress.advance, task)))
        text = presets.table(measures)
        console.print(text, markup=False, soft_wrap=True)
        content = {one.config.preset: {**vars(one), "config": one.config.as_dict()} for one in measures}
        console.print(
            f"wrote {files.write_json(self.out / 'presets.json', {**files.provenance(), 'presets': content})}"
        )
        console.print(f"wrote {files.write_text(self.out / 'presets.md', text + chr(10))}")


COMMANDS: dict[str, type[Any]] = {"compare": Compare, "presets": Presets}


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def main(arguments: list[str] | None = None) -> int:
    """Run `cfisac`; bad input ends in one clear line and exit status 2."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a log file has no width of its own
    commands = {name: _with_config(command) for name, command in COMMANDS.items()}
    command, fields = tyro.extras.subcommand_cli_from_dict(commands, prog="cfisac", args=arguments)
    try:
        given = {k: v for k, v in dataclasses.asdict(fields).items() if v is not None}
        command.run(SystemConfig(**given), console)
    except (ValueError, TypeError, FileNotFoundError) as error:
        Console(stderr=True).print(f"cfisac: {error}", style="red", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        Console(stderr=True).print("cfisac: interrupted", style="red")
        return 130
    return 0


def _with_config(command: type[Any]) -> Callable[..., tuple[Any, Any]]:
    """A subcommand that takes its own options and, unprefixed, every field of the configuration."""

    def build(
        options: Annotated[Any, tyro.conf.arg(name="")],
        fields: Annotated[Any, tyro.conf.arg(name="")],
    ) -> tuple[Any, Any]:
        return options, fields

    build.__doc__ = command.__doc__
    build.__annotations__ = {
        "options": Annotated[command, tyro.conf.arg(name="")],
        "fields": Annotated[ConfigFields, tyro.conf.arg(name="")],
    }
    return build


if __name__ == "__main__":
    sys.exit(main())
