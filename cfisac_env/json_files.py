"""JSON that is read: parsed strictly and validated, with messages that name the file, the place in it, and the violation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read(path: Path) -> str:
    """Read a text file.

    Raises:
        ValueError: it isn't UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged: it isn't UTF-8 text") from None


def loads(text: str | bytes, where: object, *, nan: bool = False) -> Any:
    """Parse JSON; NaN and infinity, which Python accepts beyond the standard, only with `nan`.

    Raises:
        ValueError: names `where`, such as a file and a line.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    try:
        return json.loads(text, parse_constant=None if nan else refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: {error}") from None


def check(content: Any, schema: Any, where: object) -> None:
    """Refuse parsed JSON that violates a schema (JSON Schema 2020-12)."""
    import jsonschema

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if error is not None:
        place = "/".join(map(str, error.absolute_path))
        raise ValueError(f"{where} is damaged{f' at {place}' if place else ''}: {shortened(error.message)}")


def shortened(text: str, most: int = 300) -> str:
    """Shorten a text for a message."""
    return text if len(text) <= most else f"{text[:most]}…"
