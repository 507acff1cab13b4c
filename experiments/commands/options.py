"""Options made of dataclasses, whose docstrings, choices and defaults are their help."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import tyro
from docstring_parser import parse

from cfisac_env import PRESETS, SystemConfig
from cfisac_env.config import CHOICES


def texts(*classes: type) -> dict[str, str]:
    """Return the text on every attribute in the docstrings of dataclasses; empty under `python -OO`."""
    found = {}
    for one in classes:
        for entry in parse(one.__doc__ or "").params:
            found[entry.arg_name] = " ".join((entry.description or "").split())
    return found


def left_open(
    field: dataclasses.Field[Any], kind: Any, text: str, default: str, metavar: str | None = None
) -> tuple[str, Any, Any]:
    """Return an option for a field that is None unless given, for `dataclasses.make_dataclass`.

    Args:
        default: for `--help`; empty if the text tells it.
        metavar: choices; by default the name of the type.
    """
    name = metavar or getattr(kind, "__name__", str(kind)).upper()
    hint = tyro.conf.arg(help=text, help_behavior_hint=f"(default: {default})" if default else "", metavar=name)
    return field.name, Annotated[kind | None, hint], None


def _config_fields() -> type:
    """Return a dataclass with the fields of `SystemConfig`, each None, so that presets fill what isn't given."""
    hints, text = typing.get_type_hints(SystemConfig), texts(SystemConfig)
    choices = {"preset": tuple(PRESETS), **CHOICES}
    fields = []
    for field in dataclasses.fields(SystemConfig):
        kind = next(part for part in (*typing.get_args(hints[field.name]), hints[field.name]) if part is not type(None))
        metavar = "{" + ",".join(choices[field.name]) + "}" if field.name in choices else None
        fields.append(left_open(field, kind, text.get(field.name, ""), _default(field), metavar))
    return dataclasses.make_dataclass(
        "ConfigFields", fields, namespace={"__doc__": "The network and what is asked of it."}
    )


def _default(field: dataclasses.Field[Any]) -> str:
    others = [f"{name}: {values[field.name]}" for name, values in PRESETS.items() if field.name in values]
    return "" if field.default is None else "; ".join([str(field.default), *others])


ConfigFields = _config_fields()


def given(fields: Any) -> dict[str, Any]:
    """Return the fields that were given."""
    return {name: value for name, value in vars(fields).items() if value is not None}


def parser(command: type[Any], example: str = "") -> Callable[..., tuple[Any, Any]]:
    """Return a parser of a command's options and, if it is configured, the fields of the configuration.

    Args:
        command: its docstring is the description.
        example: command line that the description ends with.
    """

    def with_fields(options: Any, fields: Any) -> tuple[Any, Any]:
        return options, fields

    def alone(options: Any) -> tuple[Any, Any]:
        return options, None

    build: Callable[..., tuple[Any, Any]] = with_fields if command.configured else alone
    text = command.__doc__ or ""
    described = not text.startswith(f"{command.__name__}(")  # as dataclasses write where docstrings are stripped
    build.__doc__ = "\n\n".join(filter(None, (text if described else "", example and f"Example: {example}")))
    build.__annotations__ = {"options": Annotated[command, tyro.conf.arg(name="")]}
    if command.configured:
        build.__annotations__["fields"] = Annotated[ConfigFields, tyro.conf.arg(name="")]
    return build


def parse_error(box: str) -> str:
    """Condense tyro's error message to a line: the error, similar or available options, and where to find help."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # the first is a title
        text = line.strip("│╭╮╰╯ ")
        if text.strip("─- "):
            parts[-1].append(text)
        else:
            parts.append([])
    error, *more = [part for part in parts if part]
    message = re.sub(r"^Error parsing __tyro-dummy.*?: ", "", " ".join(error)).rstrip(".")
    meant = [
        line.split()[0] for part in more if part[0].startswith("Perhaps") for line in part if line.startswith("--")
    ]
    if meant:
        message += f" (did you mean {' or '.join(dict.fromkeys(meant))}?)"
    available = [" ".join(part) for part in more if part[0].startswith("Available")]
    pointer_ = [" ".join(part).removeprefix("For full helptext, ") for part in more if part[0].startswith("For full")]
    return "; ".join([message, *available, *pointer_])


def group(purpose: str, parsers: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a parser of a group of commands, for the completion of its second words."""

    def chosen(command: Any) -> Any:
        raise AssertionError("groups have parsers of their own")

    each = [Annotated[Any, tyro.conf.subcommand(name=name, constructor=one)] for name, one in parsers.items()]
    union: Any = typing.Union[(*each, Annotated[None, tyro.conf.Suppress])]
    chosen.__annotations__ = {"command": Annotated[union, tyro.conf.arg(name="")]}
    chosen.__doc__ = purpose
    return chosen


def pointer(purpose: str, commands: Mapping[str, Any]) -> Callable[..., tuple[Any, Any]]:
    """Return the entry of a group of commands in the overview; the group has a parser of its own."""

    def point() -> tuple[Any, Any]:
        raise AssertionError("groups have parsers of their own")

    point.__doc__ = f"{purpose} ({', '.join(commands) or 'from a clone of the repository'})"
    return point
