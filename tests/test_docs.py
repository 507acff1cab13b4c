"""The snippets that readers copy run as they stand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import cfisac_env

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S):
        exec(compile(snippet, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_benchmark_shows_the_stored_leaderboard() -> None:
    table = (ROOT / "docs" / "results" / "leaderboard" / "leaderboard.md").read_text(encoding="utf-8")
    assert table in (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")


def test_readme_shows_the_stored_comparison() -> None:
    table = (ROOT / "docs" / "results" / "compare" / "compare.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "result"), [("allocator", "allocator"), ("allocator", "agreement"), ("selection", "selection")]
)
def test_pages_show_the_stored_benchmarks(page: str, result: str) -> None:
    table = (ROOT / "docs" / "results" / "bench" / f"{result}.md").read_text(encoding="utf-8")
    assert table in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def test_the_page_of_libraries_shows_the_stored_tables() -> None:
    page = (ROOT / "docs" / "doors.md").read_text(encoding="utf-8")
    stored = sorted((ROOT / "docs" / "results" / "doors").glob("*.md"))
    assert stored
    for table in stored:
        assert table.read_text(encoding="utf-8") in page, table.name


def test_pages_show_the_stored_table_of_the_paper() -> None:
    stored = (ROOT / "docs" / "results" / "paper" / "table2.md").read_text(encoding="utf-8")
    table = stored[stored.index("| M, K | method") :].split("\n\n")[0]
    assert table.count("\n") == 21
    assert table in (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")


def test_one_version_is_named_everywhere() -> None:
    version = cfisac_env.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[?([^\] ]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert next(one for one in headings if one != "Unreleased") == version
    assert version.rpartition(".")[0] in cfisac_env.READABLE
