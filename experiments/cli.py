"""The `cfisac` command."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import tyro

from cfisac_env import files, jit
from experiments import errors, signals, terminal
from experiments.commands import options
from experiments.commands.benchmark import BENCHMARK
from experiments.commands.common import Command, check
from experiments.commands.compare import Compare
from experiments.commands.curves import Curves
from experiments.commands.dataset import Dataset
from experiments.commands.doctor import Doctor
from experiments.commands.evaluate import Evaluate
from experiments.commands.examples import EXAMPLES
from experiments.commands.label import Label
from experiments.commands.mobile import Mobile
from experiments.commands.play import Play
from experiments.commands.presets import Presets
from experiments.commands.trace import Trace
from experiments.commands.train_hetgnn import TrainHetGnn
from experiments.commands.train_mobile import TrainMobile
from experiments.commands.train_rl import COMMANDS as TRAIN_RL
from experiments.commands.warmup import Warmup
from experiments.reproduction.commands import REPRODUCE, Report

try:
    from experiments.bench.commands import ABLATE, BENCH
except ModuleNotFoundError as error:
    if error.name != "experiments.bench":
        raise
    ABLATE, BENCH = {}, {}  # an installed wheel leaves them out

COMMANDS: Mapping[str, type[Command]] = {
    "compare": Compare,
    "curves": Curves,
    "dataset": Dataset,
    "doctor": Doctor,
    "evaluate": Evaluate,
    "label": Label,
    "mobile": Mobile,
    "play": Play,
    "presets": Presets,
    "report": Report,
    "trace": Trace,
    "warmup": Warmup,
}

GROUPS: Mapping[str, tuple[str, Mapping[str, type[Command]]]] = {
    "ablate": ("Measure what parts of the HetGNN are worth", ABLATE),
    "benchmark": ("Score policies on tiers of test drops, and rank them", BENCHMARK),
    "bench": ("Measure speed and certified quality", BENCH),
    "reproduce": ("Reproduce the paper's tables and figures, and measure its errata", REPRODUCE),
    "train": ("Train an agent", {"hetgnn": TrainHetGnn, "mobile-value": TrainMobile, **TRAIN_RL}),
}
"""First word of commands of two words → purpose and second words; none if the group isn't installed."""

COMPLETION = ("--tyro-print-completion", "--tyro-write-completion")
TRACEBACK = "--traceback"
DESCRIPTION = f"Cell-free ISAC: train, compare, measure. With {TRACEBACK} anywhere, errors show their traceback."


def main(arguments: list[str] | None = None) -> int:
    """Run `cfisac`.

    Returns:
        The exit status: 0; 1 after a bug, whose traceback is printed; 2 for unusable input, files or machines, which one line names
        (`--traceback` shows more); 128 + its number after a signal.
    """
    terminal.prepare()
    begun: list[Command] = []
    with signals.raised(), terminal.plain_warnings():
        try:
            status = _main(list(sys.argv[1:] if arguments is None else arguments), begun)
        except KeyboardInterrupt:
            status = 0
        if (interrupted := signals.exit_status()) is not None:
            signals.ignore()
            terminal.complain(f"interrupted; {_kept(begun)}")
            status = interrupted
    return status


def _main(arguments: list[str], begun: list[Command]) -> int:
    """Run a command, interruptions aside; `begun` receives it once it is parsed."""
    traced, arguments = TRACEBACK in arguments, [argument for argument in arguments if argument != TRACEBACK]
    try:
        try:
            command, fields = _parse(arguments)
            begun.append(command)
            _run(command, fields)
        except (SystemExit, BrokenPipeError):
            pass  # after help, whose reader may have left
        terminal.flush()
    except Exception as error:
        with contextlib.suppress(OSError):
            terminal.flush()
        if signals.exit_status() is None:  # else the interruption caused it
            return _report(error, traced)
    return 0


def _parse(arguments: list[str]) -> tuple[Command, dict[str, Any]]:
    """Parse the command with its options, and the given fields of the configuration."""
    if arguments and arguments[0] in GROUPS:
        prog, (_, commands), arguments = f"cfisac {arguments[0]}", GROUPS[arguments[0]], arguments[1:]
        if not commands:
            raise errors.UserError(
                f'{prog} runs from a clone of the repository and isn\'t in the wheel: clone it and pip install -e ".[all]"'
            )
        parsers = _parsers(prog, commands, arguments)
    else:
        prog = "cfisac"
        parsers = _parsers(prog, COMMANDS, arguments)
        completing = bool(arguments) and arguments[0].replace("_", "-") in COMPLETION
        for name, (purpose, commands) in GROUPS.items():
            if completing and commands:
                parsers[name] = options.group(purpose, _parsers(f"{prog} {name}", commands, []))
            else:
                parsers[name] = options.pointer(purpose, commands)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            command, fields = tyro.extras.subcommand_cli_from_dict(
                parsers, prog=prog, args=arguments, description=DESCRIPTION
            )
    except SystemExit as end:
        if end.code:
            raise errors.UserError(options.parse_error(printed.getvalue())) from None
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise terminal.failed(error, sys.stdout) from error
    check(command, arguments)
    return command, {} if fields is None else options.given(fields)


def _parsers(prog: str, commands: Mapping[str, type[Command]], arguments: list[str]) -> dict[str, Any]:
    """Return the parsers of commands; that of the command in the arguments shows its example."""
    parsers = {}
    for name, command in commands.items():
        full = f"{prog} {name}"
        example = f"{full} {EXAMPLES[full.removeprefix('cfisac ')]}".strip() if arguments[:1] == [name] else ""
        parsers[name] = options.parser(command, example)
    return parsers


def _run(command: Any, fields: dict[str, Any]) -> None:
    """Check that results can be written, lock their folder, and run the command."""
    with contextlib.ExitStack() as stack:
        if command.out is not None:
            files.check_writable(command.out, folder=command.output != "file")
        if command.output == "folder":
            stack.enter_context(files.locked(command.out))
        stack.enter_context(jit.announced(terminal.compiling))
        console = terminal.output()
        command.run(fields, console)
        if console.failure is not None:
            raise console.failure


def _report(error: Exception, traced: bool) -> int:
    """Print one line for an error of the user's, and the traceback of a bug."""
    line = errors.line(error)
    if traced or line is None:
        traceback.print_exception(error)
    if line is None:
        terminal.complain("this is a bug, not your input: please report it with the lines above")
        return 1
    terminal.complain(line)
    return 2


def _kept(begun: list[Command]) -> str:
    if not begun:
        return "nothing had begun"
    command = begun[0]
    return command.kept.format(out=getattr(command, "out", None) or "the folder of the run")


if __name__ == "__main__":
    import cfisac

    sys.exit(cfisac.main())
