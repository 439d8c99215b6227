"""The Python blocks of the README and of the documentation run, without a warning."""

import re
from pathlib import Path

import pytest
from own_solvers import registry_kept

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python_blocks(page):
    """Return the blocks of a page as (source, number of lines before it)."""
    text = page.read_text(encoding="utf-8")
    return [(match[1], text.count("\n", 0, match.start(1))) for match in BLOCK.finditer(text)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name
)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    with registry_kept():
        for source, lines_before in python_blocks(page):
            # Empty lines in front make a traceback point at the line of the page.
            exec(compile("\n" * lines_before + source, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_readme_example_is_ten_lines():
    [(source, _)] = python_blocks(ROOT / "README.md")
    assert len([line for line in source.splitlines() if line.strip()]) <= 10
