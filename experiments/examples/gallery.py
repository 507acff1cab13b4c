"""Command line of the gallery's scripts."""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from experiments import errors
from experiments.commands.common import Range, ranges
from experiments.errors import UserError

Drops = Annotated[int, Range(1, 10_000)]


def run(main: Callable[..., None], arguments: Sequence[str] | None = None) -> None:
    """Call a script's main function with the options of the command line; errors that users can mend are one line."""
    hints = typing.get_type_hints(main, include_extras=True)

    @functools.wraps(main)
    def checked(**options: Any) -> None:
        for name, value in options.items():
            if value == ():
                raise UserError(f"--{name} needs at least one value; leave it out for the default")
            for bounds in ranges(hints[name]):
                bounds.check(f"--{name}", value)
        main(**options)

    try:
        tyro.cli(checked, args=arguments)
    except Exception as error:
        if (text := errors.line(error)) is None:
            raise
        sys.exit(text)
