"""The `cfisac` command."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

import tyro
from rich.console import Console

from cfisac_env import SystemConfig
from experiments import signals
from experiments.commands.ablate_hetgnn import AblateHetGnn
from experiments.commands.bench_allocator import BenchAllocator
from experiments.commands.bench_env import BenchEnv
from experiments.commands.bench_selection import BenchSelection
from experiments.commands.common import Command
from experiments.commands.compare import Compare
from experiments.commands.curves import Curves
from experiments.commands.evaluate import Evaluate
from experiments.commands.label import Label
from experiments.commands.mobile import Mobile
from experiments.commands.presets import Presets
from experiments.commands.report import Report
from experiments.commands.reproduce import COMMANDS as REPRODUCE
from experiments.commands.trace import Trace
from experiments.commands.train_hetgnn import TrainHetGnn
from experiments.commands.train_rl import COMMANDS as TRAIN_RL

COMMANDS: Mapping[str, type[Command]] = {
    "compare": Compare,
    "curves": Curves,
    "evaluate": Evaluate,
    "label": Label,
    "mobile": Mobile,
    "presets": Presets,
    "report": Report,
    "trace": Trace,
}

GROUPS: Mapping[str, tuple[str, Mapping[str, type[Command]]]] = {
    "ablate": ("Measure what parts are worth", {"hetgnn": AblateHetGnn}),
    "bench": (
        "Measure speed and certified quality",
        {"allocator": BenchAllocator, "env": BenchEnv, "selection": BenchSelection},
    ),
    "reproduce": ("Make the paper's results again, corrected", REPRODUCE),
    "train": ("Train an agent", {"hetgnn": TrainHetGnn, **TRAIN_RL}),
}
"""Commands of two words: the first word, what the group is for, and the second words."""


def _optional_fields() -> type:
    """`SystemConfig` with every field left open, so that a preset fills what isn't given."""
    fields = [
        (spec.name, cast(Any, {"int": int, "float": float, "str": str}.get(str(spec.type), float)) | None, None)
        for spec in dataclasses.fields(SystemConfig)
    ]
    return dataclasses.make_dataclass("ConfigFields", fields, namespace={"__doc__": "Fields of SystemConfig."})


ConfigFields = _optional_fields()


def main(arguments: list[str] | None = None) -> int:
    """Run `cfisac`; bad input ends in one clear line and exit status 2."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a log file has no width of its own
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in GROUPS:
        prog, (_, commands), arguments = f"cfisac {arguments[0]}", GROUPS[arguments[0]], arguments[1:]
        parsers = {name: _parser(command) for name, command in commands.items()}
    else:
        prog = "cfisac"
        parsers = {name: _parser(command) for name, command in COMMANDS.items()}
        parsers |= {name: _pointer(purpose, list(commands)) for name, (purpose, commands) in GROUPS.items()}
    command: Command | None = None
    errors = Console(stderr=True, style="red", markup=False, highlight=False, soft_wrap=True)
    try:
        with signals.raised():
            command, fields = tyro.extras.subcommand_cli_from_dict(parsers, prog=prog, args=arguments)
            command.run({} if fields is None else _given(fields), console)
    except KeyboardInterrupt:
        pass
    except (ValueError, TypeError, OSError, MemoryError, ImportError) as error:
        if signals.exit_status() is None:  # else it is what the interruption broke
            errors.print(f"cfisac: {error}")
            return 2
    status = signals.exit_status()
    if status is not None:
        errors.print(f"cfisac: interrupted; {_kept(command)}")
    return status or 0


def _given(fields: Any) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(fields).items() if value is not None}


def _kept(command: Command | None) -> str:
    if command is None:
        return "nothing had begun"
    return command.kept.format(out=getattr(command, "out", None) or "the folder of the run")


def _parser(command: type[Command]) -> Callable[..., tuple[Any, Any]]:
    """A subcommand that takes its own options and, unprefixed and if it wants them, the fields of the configuration."""

    def with_fields(options: Any, fields: Any) -> tuple[Any, Any]:
        return options, fields

    def alone(options: Any) -> tuple[Any, Any]:
        return options, None

    build: Callable[..., tuple[Any, Any]] = with_fields if command.configured else alone
    build.__doc__ = command.__doc__
    build.__annotations__ = {"options": Annotated[command, tyro.conf.arg(name="")]}
    if command.configured:
        build.__annotations__["fields"] = Annotated[ConfigFields, tyro.conf.arg(name="")]
    return build


def _pointer(purpose: str, names: list[str]) -> Callable[..., tuple[Any, Any]]:
    """A line in the overview for a group; its words are parsed apart."""

    def point() -> tuple[Any, Any]:
        raise AssertionError("a group is parsed by its own words")

    point.__doc__ = f"{purpose} ({', '.join(names)})"
    return point


if __name__ == "__main__":
    sys.exit(main())
