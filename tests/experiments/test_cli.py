"""The command line: wrong input is one clear line, bugs show themselves, help says everything, and no output loses a result."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cfisac_env import PRESETS, SystemConfig, files, sample
from cfisac_env.config import CHOICES
from experiments import cli, errors, terminal
from experiments.commands.common import Command, Range, options_of, ranges
from experiments.commands.examples import EXAMPLES
from experiments.commands.options import ConfigFields

EVERY: dict[str, type[Command]] = {
    **cli.COMMANDS,
    **{f"{group} {name}": command for group, (_, commands) in cli.GROUPS.items() for name, command in commands.items()},
}
MANY = "9" * 25

WRONG: dict[str, list[str]] = {
    "": ["", "nosuch", "comapre --drops 3", "--drops 3", "bench", "bench nosuch", "train", "train dpdg", "reproduce", "ablate"],
    "compare": [
        "--seed -1", "--seed 1e6", "--seed nan", f"--seed {MANY}", "--seed", "--drops 0", "--drops -3", "--drops 1.5", f"--drops {MANY}",
        "--drops", "--policies", "--policies nosuch", "--policies ''", "--policies clairvoyant", "--preset rural", "--preset", "--M 0",
        "--M 1000000", "--K -1", "--K 2.5", "--noise-figure-db nan", "--noise-figure-db inf", "--rcs-model round", "--bandwidth-hz 0",
        "--drops-file missing.npz", "--drops-file .", "--drops-file PAGE", "--drops-file EMPTY", "--reference nosuch", "--out FILE",
        "--out FILE/below", "--out", "--nosuch 3", "7", "--policies modified-bb-paper --K 4 --pilot-length 2",
        "--policies ddpg-paper --M 7 --K 3", "--drops-file DROPS --K 3",
    ],
    "mobile": [
        "--episodes 0", f"--episodes {MANY}", "--seed -1", "--episode-steps 0", "--step-s nan", "--step-s 0", "--bound-s nan",
        "--bound-s -1", "--bound-s inf", "--switching-energy-j -1", "--wake-up-steps -1", "--user-speed-m-s inf", "--payback-s 0",
        "--decorrelation-m -1", "--policies", "--policies nosuch", "--preset rural", "--out FILE",
    ],
    "evaluate": [
        "--sizes", "--sizes 30", "--sizes 0x5", "--sizes 30x", "--sizes x", "--sizes 3x-2", "--presets", "--presets rural", "--policies",
        "--policies nosuch", "--M 3", "--K 3", "--preset urban", "--drops 0", f"--drops {MANY}", "--seed -1", "--out FILE",
    ],
    "play": [
        "--port -1", "--port 65536", "--port x", "--policy nosuch", "--policy clairvoyant", "--episode --policy tracking", "--preset rural",
        "--M 0", "--M 201", "--K 41", "--seed -1", "--episode-steps 0 --episode", "--out new",
    ],
    "presets": ["--drops 0", "--drops", f"--drops {MANY}", "--seed -1", "--preset urban", "--M 0", "--M", "--out FILE"],
    "report": [
        "--results missing", "--results .", "--results PAGE", "--maps -1", "--reference nosuch", "--out .", "--out FILE/below",
    ],
    "trace": [
        "--drops 0", f"--drops {MANY}", "--mount tower", "--samples 0", "--max-depth -1", "--ap-height-m nan", "--ap-height-m 0",
        "--user-height-m inf", "--floor-db 3", "--floor-db nan", "--seed -1", "--K 0", "--out .",
    ],
    "benchmark run": ["", "--policy", "--policy nosuch", "--policy most-informative --tiers nosuch", "--policy ddpg", "--steps -1"],
    "benchmark leaderboard": ["--entries missing", "--out FILE"],
    "benchmark reference": ["--out .", "--out FILE/below"],
    "curves": ["", "missing", ".", "PAGE", "--out FILE ."],
    "label": ["--sizes", "--presets", "--sizes 3", "--presets rural", "--drops 0", "--out FILE", "--preset urban"],
    "bench allocator": [
        "--sizes", "--sizes 30", "--sizes 0x1", "--drops 0", "--sets 0", "--reference-sets -1", "--agreement -1", "--agreement 2 --M 3",
        "--seed -1", "--preset rural", f"--sets {MANY}", "--out FILE",
    ],
    "bench env": [
        "--sizes", "--sizes 5", "--environments 0", "--threads 0", "--seconds 0", "--seconds nan", "--seconds inf", "--seed -1", "--M 5",
        "--out FILE",
    ],
    "bench selection": [
        "--cases", "--cases nosuch", "--cases paper:30x6:1", "--cases rural:30x6:1:1", "--cases paper:30x6:nan:1", "--cases paper:0x6:1:1",
        "--elimination 5", "--elimination-drops 0", "--elimination-solves 1", "--seed -1", "--out FILE",
    ],
    "reproduce all": [
        "--drops 0", f"--drops {MANY}", "--slow-drops -1", "--seed -1", "--policies", "--policies nosuch", "--presets",
        "--presets rural", "--again nosuch", "--reference nosuch", "--time-limit 0", "--time-limit nan", "--time-limit inf",
        "--timed-drops 0", "--time-budget -1", "--workers 0", "--out FILE", "--out FILE/below",
    ],
    **{f"reproduce {name}": ["--drops 0", "--policies nosuch", "--out FILE"] for name in ("table2", "fig3", "fig4", "times")},
    "reproduce errata": [
        "--drops 0", f"--drops {MANY}", "--seed -1", "--page missing.md", "--page .", "--page PAGE", "--page BYTES", "--preset rural",
        "--out FILE",
    ],
    "ablate hetgnn": ["--sizes", "--sizes 3", "--labels missing", "--variants nosuch", "--variants", "--out FILE"],
    "train hetgnn": ["--labels missing", "--labels PAGE", "--epochs 0", "--out FILE"],
    "train mobile-value": ["--generations 0", "--population 5", "--batch 99", "--seed -1", "--preset rural", "--out FILE"],
    "train ddpg-paper": ["--steps 0", "--policy nosuch", "--seed -1", "--learning-rate nan", "--preset rural", "--out FILE"],
}  # fmt: skip
"""Command → options that it refuses; capital words stand for files of the test."""


def _options(command: type[Command]) -> dict[str, Any]:
    """Options of a command with their types."""
    return {flag: hint for flag, _, hint in options_of(command)}


def _generic(command: type[Command]) -> Iterator[str]:
    """What every command refuses: unknown options, options without a value, and numbers outside their ranges."""
    yield "--nosuch 3"
    if "--out" in _options(command):
        yield from ("--out", "--out FILE/below")
    for flag, hint in _options(command).items():
        if "tuple[" in str(hint) and "Positional" not in str(hint):
            yield flag
        for bounds in ranges(hint):
            yield f"{flag} {MANY}{MANY}"
            yield f"{flag} {bounds.low - 1:g}"
            yield f"{flag} nan"
            if bounds.above:
                yield f"{flag} {bounds.low:g}"


def _arguments(name: str, *more: str) -> list[str]:
    """A command that would write into `new`."""
    given = ["."] if name == "curves" else []
    return [*name.split(), *given, *(["--out", "new"] if "--out" in _options(EVERY[name]) else []), *more]


CASES = [(name, options) for name, lines in WRONG.items() for options in lines]
CASES += [
    (name, options)
    for name, command in EVERY.items()
    for options in _generic(command)
    if options not in WRONG.get(name, [])
]


@pytest.fixture(scope="module")
def stuff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that quotes nothing, bytes that are no text, drops, and a drops file without drops."""
    folder = tmp_path_factory.mktemp("stuff")
    (folder / "PAGE").write_text("nothing here\n")
    (folder / "FILE").write_text("in the way\n")
    (folder / "BYTES").write_bytes(b"\xff\xfe**1**<!-- E9.cost -->")
    drops = sample(SystemConfig(M=6, K=2), np.random.default_rng(1), 2)
    drops.save(folder / "DROPS.npz").rename(folder / "DROPS")
    with np.load(folder / "DROPS") as stored:
        arrays = {key: value[:0] if value.ndim and value.shape[0] == 2 else value for key, value in stored.items()}
    np.savez(folder / "EMPTY.npz", **arrays)
    (folder / "EMPTY.npz").rename(folder / "EMPTY")
    return folder


@pytest.fixture
def here(stuff: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with `stuff`."""
    monkeypatch.chdir(tmp_path)
    for path in stuff.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.parametrize(("name", "options"), CASES)
def test_wrong_input_is_refused_in_words_and_leaves_nothing(
    name: str, options: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    arguments = ["" if word == "''" else word for word in options.split()]
    assert cli.main([*name.split(), *arguments]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert "Traceback" not in error
    assert error.startswith("cfisac: "), error
    assert len(error.splitlines()) == 1, error
    assert len(error.removeprefix("cfisac: ").split(";")[0]) > 10, error
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [name for name, command in EVERY.items() if "--out" in _options(command)])
def test_an_out_that_cannot_be_written_is_refused_before_anything_is_computed(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = EVERY[name]

    def run(*arguments: Any) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(command, "run", run)
    folder = command.output != "file"
    (here / "folder").mkdir()
    for out in ("FILE" if folder else "folder", "FILE/below/it", "/proc/nowhere/below", "/dev/full/below"):
        assert cli.main([*_arguments(name), "--out", out]) == 2, out
        error = capsys.readouterr().err
        assert "choose another --out" in error, out
        assert len(error.splitlines()) == 1


def test_a_full_disk_is_noticed_at_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        OSError, match=f"nothing can be written to {tmp_path} \\(No space left on device\\); choose another --out"
    ):
        files.check_writable(tmp_path / "new" / "folder", folder=True)
    assert list(tmp_path.iterdir()) == []


def _help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `--help` shows of each option."""
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main([*name.split(), "--help"]) == 0
    text = re.sub(r"[│╭╰╮╯─]", " ", capsys.readouterr().out)
    parts = re.split(r"\n +(--\w[\w.-]*)", text)
    return {flag: " ".join(words.split()) for flag, words in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("name", EVERY)
def test_help_says_of_every_option_what_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    says = _help(name, monkeypatch, capsys)
    assert says.keys() >= _options(EVERY[name]).keys() - {"--runs"}
    if EVERY[name].configured:
        assert says.keys() >= {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(ConfigFields)}
    for option, words in says.items():
        meaning = re.sub(r"\(default.*", "", words).strip()
        assert len(meaning.split()) >= 3, f"{option}: {words}"
        assert "{None" not in words, f"{option}: {words}"
        assert "(default: None)" not in words, f"{option}: {words}"
        assert "(default: )" not in words, f"{option}: {words}"


UNITS = {
    "_dbm_hz": "in dBm/Hz", "_hz": "in Hz", "_db": "in dB", "_m2": "in m²", "_m": "in m", "_w": "in W", "_penalty": "in W",
    "_length": "in symbols", "_symbols": "in symbols",
}  # fmt: skip
"""End of a field's name → its unit in the help text."""


@pytest.mark.parametrize("name", [name for name, command in EVERY.items() if command.configured])
def test_help_shows_unit_choices_and_true_default_of_every_field_of_the_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    says = _help(name, monkeypatch, capsys)
    choices = {"preset": list(PRESETS), **CHOICES}
    for field in dataclasses.fields(SystemConfig):
        words = says[f"--{field.name.replace('_', '-')}"]
        unit = next((unit for end, unit in UNITS.items() if field.name.endswith(end)), "")
        assert unit in words, words
        if field.name in choices:
            assert words.startswith("{" + ",".join(choices[field.name]) + "}"), words
        defaults = {name: getattr(SystemConfig(preset=name), field.name) for name in PRESETS if field.name != "preset"}
        usual = defaults.pop("paper", "paper")
        others = "".join(f"; {name}: {value}" for name, value in defaults.items() if value != usual)
        assert f"(default: {usual}{others})" in words or (field.default is None and "by default" in words), words


def test_options_are_the_fields_of_the_configuration() -> None:
    assert [field.name for field in dataclasses.fields(ConfigFields)] == [
        field.name for field in dataclasses.fields(SystemConfig)
    ]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["compare", "--help"], ["train", "ddpg-paper", "--help"], ["compare", "--preset", "rural"]],
)
def test_without_docstrings_the_command_works(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "experiments.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if "--help" in arguments else 2), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in EVERY for kind in (TypeError, ValueError)]
    + [
        ("presets", kind)
        for kind in (KeyError, ZeroDivisionError, RuntimeError, AssertionError, NotImplementedError, RecursionError)
    ],
)
def test_a_bug_shows_itself_in_every_command(
    name: str, kind: type[Exception], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: Any) -> None:
        raise kind("something is broken inside")

    monkeypatch.setattr(EVERY[name], "run", run)
    assert cli.main(_arguments(name)) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "something is broken inside" in error
    assert "this is a bug, not your input" in error


@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_traceback_of_a_refusal_is_there_on_demand(
    place: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "--preset", "rural"]
    arguments.insert(place, "--traceback")
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("cfisac: unknown preset 'rural'")


def _broken(work: Callable[[], Any]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda: SystemConfig(M=0), "M must be a whole number in [1, 100000], got 0"),
        (
            lambda: cast(Any, SystemConfig)(m=0),
            "SystemConfig.__init__() got an unexpected keyword argument 'm' (did you mean 'M'?)",
        ),
        (lambda: Range(0, 1).check("--x", 2), "--x must be 1 or less, got 2"),
        (lambda: Path("nowhere").read_text(), "No such file or directory ('nowhere')"),
        (lambda: (_ for _ in ()).throw(MemoryError()), "the machine has too little memory for that"),
        (lambda: np.empty(10**15), "Unable to allocate"),
        (lambda: __import__("nosuchmodule"), "No module named 'nosuchmodule'"),
        (lambda: np.zeros(2) @ np.zeros(3), None),
        (lambda: SystemConfig().M + "x", None),  # type: ignore[operator]
        (lambda: int("x"), None),
        (lambda: dict[str, int]()["x"], None),
        (lambda: sample(None, None), None),  # type: ignore[arg-type]
    ],
)
def test_refusals_are_told_from_bugs_by_where_they_are_raised(work: Callable[[], Any], expected: str | None) -> None:
    said = errors.line(_broken(work))
    assert said is None if expected is None else (said is not None and said.startswith(expected))


def _write_and_print(self: Any, fields: dict[str, Any], console: Any) -> None:
    """A command with words before and after its results."""
    console.print("σ² × 1 – – ∞ ✓ these are the first of many words\n" * 300, soft_wrap=True)
    if self.output == "folder" and self.out is not None:
        files.write_text(self.out / "result.txt", "all the work")
    for _ in range(300):
        console.print("σ² × 1 – – ∞ ✓ a line that is printed many times, so that it fills every buffer", soft_wrap=True)


@pytest.fixture(params=EVERY)
def stub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, here: Path) -> list[str]:
    """The arguments of a command that does nothing but write and print."""
    monkeypatch.setattr(EVERY[request.param], "run", _write_and_print)
    return _arguments(request.param)


def _closed_pipe() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


@pytest.mark.parametrize("help_", [False, True])
def test_a_closed_pipe_ends_quietly(
    stub: list[str], help_: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _closed_pipe() as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main([*stub, "--help"] if help_ else stub) == 0
    assert capsys.readouterr().err == ""
    _kept(stub, here, help_)


@pytest.mark.parametrize("help_", [False, True])
def test_an_output_that_is_full_is_one_line_and_loses_nothing(
    stub: list[str], help_: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main([*stub, "--help"] if help_ else stub) == 2
    error = capsys.readouterr().err
    assert error.startswith("cfisac: the standard output takes nothing more (No space left on device)")
    assert len(error.splitlines()) == 1
    _kept(stub, here, help_)


@pytest.mark.parametrize("encoding", ["ascii"])
def test_a_character_that_an_output_cannot_take_is_replaced(
    stub: list[str], encoding: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = here / "output"
    for arguments in (stub, [*stub, "--help"]):
        with path.open("w", encoding=encoding) as poor:
            monkeypatch.setattr(sys, "stdout", poor)
            assert cli.main(arguments) == 0
        assert len(path.read_text(encoding=encoding)) > 100
    assert capsys.readouterr().err == ""
    _kept(stub, here, False)


def test_without_outputs_at_all_the_work_is_done(stub: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(stub) == 0
    _kept(stub, here, False)


def _kept(stub: list[str], here: Path, only_help: bool) -> None:
    name = next(name for name in EVERY if stub[: len(name.split())] == name.split())
    if EVERY[name].output == "folder":
        assert (here / "new" / "result.txt").exists() != only_help


@pytest.mark.parametrize("end", ["2>/dev/full", "2>&-", "2>&1 >&- | true", "| true", ">/dev/full 2>&1"])
def test_whatever_the_shell_does_to_the_outputs_the_status_is_kept(end: str) -> None:
    line = f"{sys.executable} -m experiments.cli presets --drops 0 {end}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stdout + done.stderr


REAL = {
    "compare": "compare --M 6 --K 2 --drops 1 --policies full-ap random",
    "mobile": "mobile --M 6 --K 2 --T 4 --crlb-threshold-m2 4 --episode-steps 2 --episodes 1 --policies full-ap",
    "evaluate": "evaluate --sizes 6x2 --drops 1 --policies full-ap",
    "presets": "presets --drops 1 --M 8 --K 3",
    "bench": "bench allocator --sizes 6x2 --drops 1 --sets 1 --reference-sets 0",
    "errata": "reproduce errata --M 8 --K 2 --drops 1",
}
WRITES = {
    "compare": ["compare.csv", "compare.json", "compare.md", "compare.png"],
    "mobile": ["episodes.jsonl", "mobile.csv", "mobile.json", "mobile.md", "mobile.png"],
    "evaluate": ["evaluate.md", "paper-6x2"],
    "presets": ["presets.json", "presets.md"],
    "bench": ["allocator.json", "allocator.md"],
    "errata": ["errata.json", "errata.md"],
}


@pytest.mark.parametrize("name", REAL)
def test_results_come_before_words(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real commands, with a full output, then in forty columns of ASCII; the small presets cannot serve a single drop."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main([*REAL[name].split(), "--out", str(tmp_path / "results")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == WRITES[name]
    monkeypatch.setenv("COLUMNS", "40")
    with (tmp_path / "printed").open("w", encoding="ascii") as poor:
        monkeypatch.setattr(sys, "stdout", poor)
        assert cli.main([*REAL[name].split(), "--out", str(tmp_path / "results")]) == 0
    printed = (tmp_path / "printed").read_text()
    assert all(len(line) <= 40 for line in printed.splitlines() if not line.startswith("wrote ")), printed
    assert not re.search(r"\bnan\b", printed)
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_on_a_terminal_alone() -> None:
    with terminal.progress() as bar:
        assert bar.disable


@pytest.mark.parametrize("name", EVERY)
def test_help_ends_with_an_example_that_is_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert EXAMPLES.keys() == EVERY.keys()
    arguments = [*name.split(), *EXAMPLES[name].split()]
    command, _ = cli._parse(arguments)
    assert type(command) is EVERY[name]
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main([*name.split(), "--help"]) == 0
    assert f"Example: cfisac {' '.join(arguments)}" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_their_second_words_and_their_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "cfisac"
    assert cli.main(["--tyro-write-completion", "bash", str(script)]) == 0
    for words, wanted in (
        (["pla"], {"play"}),
        (["train", "ddpg"], {"ddpg", "ddpg-paper"}),
        (["compare", "--sinr-t"], {"--sinr-threshold-db"}),
        (["train", "hetgnn", "--epo"], {"--epochs"}),
    ):
        ask = f'source {script}; COMP_WORDS=(cfisac {" ".join(words)}); COMP_CWORD={len(words)}; _tyro_cfisac; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=False)
        assert set(done.stdout.split()) == wanted, (words, done.stderr)
