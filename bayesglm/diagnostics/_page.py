"""The report as one HTML file that needs nothing else: no network, no scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from bayesglm.diagnostics._check import Check
from bayesglm.diagnostics._definitions import DEFINITIONS, PROBABILITY
from bayesglm.diagnostics._pictures import pictures

_MOST_ROWS = 40
_WORDS = {"ok": "OK", "caution": "Caution", "fail": "Fail", "unknown": "Not known"}
_CSS = """
.bayesglm-report { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --card: #f6f8fa; --ok: #1a7f37; --caution: #8a5a00; --fail: #c6232b; --unknown: #57606a;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto;
  padding: 1rem; box-sizing: border-box; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { .bayesglm-report { --paper: #0f1419; --ink: #e6e9ed; --soft: #a3adb8;
  --line: #38414b; --card: #1a212a; --ok: #4cc96a; --caution: #e3b341; --fail: #ff7b72; --unknown: #a3adb8; } }
.bayesglm-report * { box-sizing: border-box; }
.bayesglm-report h1 { font-size: 1.5rem; margin: 0; } .bayesglm-report h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.bayesglm-report h3 { font-size: 1rem; margin: 0; } .bayesglm-report p { margin: .3rem 0; }
.bayesglm-report header { border-left: .5rem solid var(--tone); padding: .5rem 1rem; background: var(--card); }
.bayesglm-report .verdict { color: var(--tone); font-size: 1.6rem; font-weight: 700; }
.bayesglm-report .soft, .bayesglm-report figcaption { color: var(--soft); font-size: .9rem; }
.bayesglm-report .ok { --tone: var(--ok); } .bayesglm-report .caution { --tone: var(--caution); }
.bayesglm-report .fail { --tone: var(--fail); } .bayesglm-report .unknown { --tone: var(--unknown); }
.bayesglm-report .status { color: var(--tone); font-weight: 600; white-space: nowrap; }
.bayesglm-report .card { border: 1px solid var(--line); border-left: .4rem solid var(--tone); padding: .6rem .9rem;
  margin: .6rem 0; }
.bayesglm-report .scroll { overflow-x: auto; overflow-wrap: break-word; }
.bayesglm-report .neurons td { white-space: nowrap; }
.bayesglm-report table { border-collapse: collapse; font-size: .9rem; width: 100%; background: none; }
.bayesglm-report th, .bayesglm-report td { text-align: left; padding: .3rem .6rem; vertical-align: top;
  border-bottom: 1px solid var(--line); background: none; color: inherit; }
.bayesglm-report td.number, .bayesglm-report th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.bayesglm-report .gallery { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.bayesglm-report figure { margin: 0; border: 1px solid var(--line); padding: .7rem; break-inside: avoid; }
.bayesglm-report svg { width: 100%; height: auto; display: block; color: var(--ink); fill: currentColor;
  font-family: system-ui, sans-serif; }
.bayesglm-report code { font-size: .92em; background: var(--card); padding: 0 .2em; color: inherit; }
.bayesglm-report details { margin: .2rem 0; } .bayesglm-report summary { cursor: pointer; }
@media (max-width: 40rem) { .bayesglm-report { font-size: 15px; padding: .6rem; }
  .bayesglm-report .checks th { display: none; } .bayesglm-report .checks tr { display: block; padding: .4rem 0;
  border-bottom: 1px solid var(--line); } .bayesglm-report .checks td { display: block; border: 0;
  padding: .05rem 0; } }
@media print { .bayesglm-report { --paper: #fff; --ink: #000; --soft: #333; --card: #fff; --line: #999;
  max-width: none; font-size: 10pt; } .bayesglm-report .card, .bayesglm-report tr { break-inside: avoid; }
  .bayesglm-report .gallery { grid-template-columns: 1fr 1fr; } }
"""


def page(report) -> str:
    """Return a complete HTML document."""
    title = f"bayesglm report: {report.verdict}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>body {{ margin: 0; background: #fff; }}\n"
        "@media (prefers-color-scheme: dark) { body { background: #0f1419; } }</style>\n</head>\n<body>\n"
        f"{fragment(report)}\n</body>\n</html>\n"
    )


def fragment(report) -> str:
    """Return the report as an element that can stand in another page, such as a notebook."""
    sections = (
        _header(report), _cards(report), _checks(report), _gallery(report), _neurons(report), _parameters(report),
        _settings(report), _definitions(),
    )  # fmt: skip
    return f'<main class="bayesglm-report"><style>{_CSS}</style>{"".join(filter(None, sections))}</main>'


def _tone(report) -> str:
    tones = {"OK": "ok", "CAUTION": "caution", "DO NOT USE": "fail"}
    return tones.get(report.verdict, "unknown")


def _header(report) -> str:
    settings = report._evidence.settings
    what = ", ".join(str(settings[name]) for name in ("model", "observation model", "regularizer"))
    return (
        f'<header class="{_tone(report)}"><h1><span class="verdict">{report.verdict}</span></h1>'
        f'<p>{escape(report.headline)}</p><p class="soft">{escape(what)}</p></header>'
    )


def _cards(report) -> str:
    cards = [
        f'<div class="card {check.status}"><h3><span class="status">{_WORDS[check.status]}</span> '
        f"{escape(check.definition.title)}: {escape(check.message)}</h3><p>{_prose(check.definition.meaning)}</p>"
        f"<p><strong>What to do:</strong> {_prose(check.remedy)}</p></div>"
        for check in report.failed
    ]
    missing = [f'<p class="soft">{_prose(text)}</p>' for text in report.not_made]
    head = "<h2>What to do</h2>" if cards else ""
    return f"<section>{head}{''.join(cards)}{''.join(missing)}</section>"


def _limits(check: Check) -> str:
    sign = "<" if check.definition.smaller_is_worse else ">"
    named = zip(("caution", "fail"), check.limits, strict=True)
    return ", ".join(f"{name} {sign} {limit:.4g}" for name, limit in named if limit is not None)


def _checks(report) -> str:
    rows = [
        (f'<span class="status {c.status}">{_WORDS[c.status]}</span>', escape(c.definition.title), escape(c.message),
         escape(_limits(c)))
        for c in report.checks.values()
    ]  # fmt: skip
    head = ("Status", "Check", "Result", "Limits")
    return f'<section class="checks"><h2>All checks</h2>{_table(head, rows)}</section>'


def _gallery(report) -> str:
    figures = [
        f'<figure role="img" aria-label="{escape(p.title)}. {escape(p.caption)}"><h3>{escape(p.title)}</h3>{p.svg}'
        f"<figcaption>{escape(p.caption)}</figcaption></figure>"
        for p in pictures(report)
    ]
    return (
        f'<section><h2>Pictures</h2><div class="gallery">{"".join(figures)}</div></section>'
        if figures
        else ""
    )


def _neurons(report) -> str:
    if report._evidence.labels is None:
        if not report.numbers:
            return ""
        rows = [
            (escape(name.replace("_", " ")), _number(values[0]))
            for name, values in report.numbers.items()
        ]
        return f"<section><h2>Numbers</h2>{_table(('', ''), rows, 1)}</section>"
    table = report.table
    shown = table.iloc[:_MOST_ROWS].dropna(axis=1, how="all")
    head = ("neuron", *(name.replace("_", " ") for name in shown.columns))
    rows = [
        (escape(str(label)), escape(str(row.iloc[0])), *map(_number, row.iloc[1:]))
        for label, row in shown.iterrows()
    ]
    more = _more(table)
    return f'<section class="neurons"><h2>Neurons, worst first</h2>{_table(head, rows, 2)}{more}</section>'


def _parameters(report) -> str:
    table = report._evidence.estimates
    if table is None:
        return ""
    rows = [
        (escape(str(name)), *map(_number, row)) for name, row in table.iloc[:_MOST_ROWS].iterrows()
    ]
    head = ("parameter", *(name.replace("_", " ") for name in table.columns))
    more = _more(table)
    meaning = table.attrs.get("interval", "")
    caption = f'<p class="soft">low, high: {escape(meaning)}.</p>' if meaning else ""
    return f"<section><h2>Parameters</h2>{caption}{_table(head, rows, 1)}{more}</section>"


def _more(table) -> str:
    if len(table) <= _MOST_ROWS:
        return ""
    return f'<p class="soft">The first {_MOST_ROWS} of {len(table)}; all are in the JSON form.</p>'


def _settings(report) -> str:
    rows = []
    for name, value in report._evidence.settings.items():
        text = (
            ", ".join(f"{k} {v}" for k, v in value.items())
            if isinstance(value, dict)
            else str(value)
        )
        rows.append((escape(name), escape(text)))
    return f"<section><h2>How it was computed</h2>{_table(('', ''), rows)}</section>"


def _definitions() -> str:
    rows = [
        (
            escape(d.title),
            escape(d.measure + ("; more than chance" if d.tested else "")),
            escape(d.source),
        )
        for d in DEFINITIONS.values()
    ]
    note = (
        f"More than chance: less than {PROBABILITY:g} probable under the model, over all neurons together. So neither "
        "a small deviation in much data nor a large one in few counts is enough."
    )
    table = _table(("Check", "Number", "Source"), rows)
    return (
        "<section><details><summary>Definitions and sources of all checks</summary>"
        f'{table}<p class="soft">{escape(note)}</p></details></section>'
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 99) -> str:
    kind = lambda i: ' class="number"' if i >= numbers_from else ""  # noqa: E731
    top = "".join(f'<th scope="col"{kind(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="scroll" tabindex="0"><table>{top}<tbody>{body}</tbody></table></div>'


def _prose(text: str) -> str:
    """Return text with its code marked."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _number(value) -> str:
    return f"{value:.4g}" if np.isfinite(value) else ("" if np.isnan(value) else str(value))
