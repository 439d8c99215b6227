"""Write the table of checks of docs/report.md from their definitions: ``python -m tests.report_table``."""

from pathlib import Path

from bayesglm.diagnostics import DEFINITIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "report.md"
BEGIN = "<!-- checks: written by `python -m tests.report_table` -->\n"
END = "<!-- end of checks -->"


def table() -> str:
    """Return the definitions as Markdown."""
    lines = ["| check | number | caution | fail | source |", "|---|---|---|---|---|"]
    for each in DEFINITIONS.values():
        sign = "<" if each.smaller_is_worse else ">"
        limits = [
            "" if limit is None else f"{sign} {limit:g}" for limit in (each.caution, each.fail)
        ]
        cells = [f"**{each.title}** (`{each.name}`)", each.measure, *limits, each.source]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def updated(text: str) -> str:
    """Return a page with the table between its markers."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
