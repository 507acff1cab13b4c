"""Sphinx configuration of the site: `make docs` builds it into `build/site`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import environment_pages  # noqa: E402

import cfisac_env  # noqa: E402
from experiments.reproduction import page, run  # noqa: E402

MAPS = 20
"""Drops a point with a map, on the explorer's page."""

project = "cfisac"
author = "The cfisac authors"
version = release = cfisac_env.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = [
    str(path.relative_to(HERE))
    for path in (HERE / "results").rglob("*.md")
    if not path.read_text(encoding="utf-8").startswith("# ")
]
html_theme = "furo"
html_title = "cfisac"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_copy_source = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
default_role = "literal"  # docstrings write names as Markdown does
napoleon_numpy_docstring = False
napoleon_use_rtype = False

linkcheck_ignore = [r"https?://"]  # what others keep is not in this build's hands


def _as_restructured_text(app: Any, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    """Turn the Markdown of a docstring into what autodoc reads: fences, headings, tables and bars."""
    text = "\n".join(lines)
    text = re.sub(r"^([ ]*)```(\w*)\n(.*?)^[ ]*```", _code, text, flags=re.S | re.M)
    text = re.sub(r"^## (.+)$", r"**\1**", text, flags=re.M)
    text = re.sub(r"(?:^ *\|.*\|$\n?)+", _table, text, flags=re.M)
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [
        re.sub(r"(?<!\\)([|*_])(?=\S)(?![^\n]*::)", r"\\\1", piece) if ".." not in piece else piece
        for piece in pieces[::2]
    ]
    text = "".join(pieces)
    if what in ("data", "attribute"):  # napoleon takes the words before a colon for a type
        text = re.sub(r":(?=\s)", r"\\:", text)
    lines[:] = text.split("\n")


def _code(match: re.Match[str]) -> str:
    indent, language, code = match.groups()
    body = "\n".join(f"   {line}" for line in code.rstrip().split("\n"))
    return f"{indent}.. code-block:: {language or 'text'}\n\n{body}\n"


def _table(match: re.Match[str]) -> str:
    rows = [line.strip().strip("|").split("|") for line in match[0].strip().split("\n")]
    return (
        "\n"
        + "\n".join(
            "| " + " · ".join(cell.strip() for cell in row) for row in rows if not set("".join(row)) <= set("-: ")
        )
        + "\n"
    )


def _within_the_site(app: Any, name: str, source: list[str]) -> None:
    """Lead links that are for readers of the repository to what the site has in their place."""
    source[0] = re.sub(r"\]\(\.\./agents/[\w/]+/[\w-]+\.md\)", "](cards.md)", source[0])
    source[0] = re.sub(r"\[([^\]]+)\]\(results/\w+\)", r"`\1`", source[0])


def _write_explorer(app: Any, error: Exception | None) -> None:
    """Write the page of `cfisac report` into the site."""
    if error is None and app.builder.name == "html":
        study = run.Reproduction.read(HERE / "results" / "paper", "local-search")
        (Path(app.outdir) / "explore.html").write_text(page.build(study, MAPS), encoding="utf-8")


def setup(app: Any) -> None:
    """Write the pages of the environments and the explorer, and read docstrings and links as the site needs them."""
    app.connect("build-finished", _write_explorer)
    app.connect("source-read", _within_the_site)
    app.connect("builder-inited", lambda app: environment_pages.write(HERE))
    app.connect("autodoc-process-docstring", _as_restructured_text, priority=100)
