"""The report: a verdict, the checks behind it, and every number."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesglm import _families
from bayesglm.diagnostics import _draws, _fit
from bayesglm.diagnostics._check import STATUSES, Check, number, plain
from bayesglm.diagnostics._definitions import DEFINITIONS
from bayesglm.diagnostics._evidence import Evidence, Responses
from bayesglm.diagnostics._remedies import advise

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DiagnosticsReport"]

#: Raised when a key of the JSON form changes its meaning.
SCHEMA_VERSION = 2
#: What is said of data that no check has seen.
UNSEEN = "NOT CHECKED"
VERDICTS = ("OK", "CAUTION", "DO NOT USE")
_SENTENCES = {
    "OK": "No check found anything wrong.",
    UNSEEN: "Nothing is wrong with {part}, but whether the model goes with the data was not looked at.",
    "CAUTION": "Usable with care: read the checks below before drawing conclusions.",
    "DO NOT USE": "Do not draw conclusions before what failed below is mended.",
}
_MEANS_ONLY = (
    "Coefficients and predictions are usable; standard errors, intervals and p-values are not."
)
_MARKS = {"ok": "ok", "caution": "CAUTION", "fail": "FAIL", "unknown": "-"}
_WIDTH = 100


class DiagnosticsReport:
    """Whether a fit can be trusted, and what to do if not.

    Made by :meth:`bayesglm.glm.GLM.report`. Print it, show it in a notebook, or save it as HTML or JSON.

    Attributes
    ----------
    verdict : "OK", "CAUTION", "DO NOT USE" or "NOT CHECKED"
        The worst of all checks; where a check fails that concerns standard errors only, "CAUTION". "NOT CHECKED" where
        nothing is wrong, but the data were not looked at.
    ok : bool
        Whether the verdict is "OK".
    checks : dict
        :class:`Check` by name, in the order of :data:`DEFINITIONS`.
    table : pandas.DataFrame
        One row per neuron, worst first: its verdict and its number in each check.
    """

    def __init__(self, evidence: Evidence):
        self._evidence = evidence
        found = {each.name: each for each in (*_fit.checks(evidence), *_draws.checks(evidence))}
        self.checks: dict[str, Check] = {
            name: replace(found[name], advice=advise(found[name], evidence.facts))
            for name in DEFINITIONS
            if name in found
        }

    @property
    def ok(self) -> bool:
        """Whether the verdict is "OK"."""
        return self.verdict == "OK"

    @cached_property
    def verdict(self) -> str:
        """The worst of all checks, in words."""
        return self._words(max(self._severity(), default=1))

    def _severity(self):
        """Return what each known check says of the model as a whole: failed errors leave means usable."""
        for check in self._known():
            errors_only = check.definition.spoils == "errors"
            yield min(STATUSES.index(check.status), 1 if errors_only else 2)

    def _words(self, severity: int) -> str:
        return UNSEEN if severity == 0 and self._evidence.responses is None else VERDICTS[severity]

    @property
    def means_only(self) -> bool:
        """Whether standard errors and intervals failed, but nothing else did."""
        bad = [c for c in self._known() if c.status == "fail"]
        return bool(bad) and all(c.definition.spoils == "errors" for c in bad)

    def _known(self) -> list[Check]:
        return [check for check in self.checks.values() if check.status in STATUSES]

    @property
    def failed(self) -> list[Check]:
        """The checks that are not ok, worst first."""
        bad = [check for check in self._known() if check.status != "ok"]
        return sorted(bad, key=lambda check: -STATUSES.index(check.status))

    @property
    def not_made(self) -> list[str]:
        """What would be needed for more checks, in words."""
        evidence, missing = self._evidence, []
        if evidence.responses is None:
            missing.append(
                "Pass the training data, `report(X, y)`, for the checks of data against model."
            )
        elif evidence.curvature is None:
            missing.append(
                "Too many coefficients to look at their curvature: no check of collinearity or separation."
            )
        if evidence.responses is not None:
            missing += _not_seen(evidence.responses)
        if evidence.tree is None:
            missing.append("Call `sample_posterior` for the checks of the posterior.")
        elif evidence.responses is not None and evidence.loo is None:
            missing.append("Pass `loo=True` for leave-one-out checks.")
        unknown = [
            DEFINITIONS[name].title for name, c in self.checks.items() if c.status == "unknown"
        ]
        if unknown:
            missing.append(f"Not known: {', '.join(unknown)}.")
        return missing

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per neuron, worst first."""
        import pandas as pd

        evidence = self._evidence
        n = evidence.n_neurons
        most = {"all": 2, "errors": 1}
        grades = [
            np.minimum(check.grades, most[check.definition.spoils])
            for check in self.checks.values()
        ]
        worst = np.max([np.zeros(n, int), *grades], axis=0)
        columns: dict[str, Any] = {"verdict": [self._words(severity) for severity in worst]}
        columns |= {name: check.values for name, check in self.checks.items()}
        columns |= self.numbers
        index = pd.Index([0] if evidence.labels is None else evidence.labels, name="neuron")
        table = pd.DataFrame(columns, index=index)
        n_bad = np.sum([check.grades > 0 for check in self.checks.values()], axis=0) + np.zeros(n)
        return table.iloc[np.lexsort((np.arange(n), -n_bad, -worst))]

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """Numbers of each neuron that no check judges."""
        found: dict[str, np.ndarray] = {}
        evidence = self._evidence
        if evidence.responses is not None:
            found |= {
                "pseudo_r2": evidence.responses.pseudo_r2,
                "deviance_explained": evidence.responses.deviance_explained,
            }
        if evidence.curvature is not None:
            c = evidence.curvature
            found |= {
                "prior_share": c.prior_share,
                "prior_sd_min": c.prior_sd_min,
                "prior_sd_max": c.prior_sd_max,
            }
        if evidence.loo is not None:
            cells = evidence.loo.cells
            weight, used = cells.weight, cells.weight > 0
            share = evidence.loo.n_all / np.maximum(weight.sum(axis=0), np.finfo(float).tiny)
            found |= {
                "elpd_loo": share * np.sum(weight * cells.elpd, axis=0, where=used),
                "p_loo": share * np.sum(weight * (cells.lppd - cells.elpd), axis=0, where=used),
            }
        return found  # fmt: skip

    @property
    def headline(self) -> str:
        """The verdict in one sentence, with the neurons that it is about."""
        part = "the fit" if self._evidence.tree is None else "the fit and the draws"
        text = _SENTENCES[self.verdict].format(part=part)
        if not self._known():
            text = "Nothing could be checked."
        elif self.means_only:
            text = f"{_MEANS_ONLY} Read what failed below."
        if self._evidence.settings.get("left out"):
            text = f"{text} Not seen: {self._evidence.settings['left out']}."
        if self._evidence.labels is None or self.verdict in ("OK", UNSEEN):
            return text
        counts = self.table["verdict"].value_counts()
        each = ", ".join(f"{counts[v]} {v}" for v in (*reversed(VERDICTS), UNSEEN) if v in counts)
        return f"{text} Of {self._evidence.n_neurons} neurons: {each}."

    def __str__(self):
        lines = [_wrap(f"{self.verdict}: {self.headline}", "")]
        for check in self.failed:
            lines.append("")
            lines.append(
                _wrap(f"{check.definition.title}: {check.message}", f"  {_MARKS[check.status]:8s}")
            )
            lines.append(_wrap(check.definition.meaning, " " * 10))
            lines.append(_wrap(f"What to do: {check.remedy}", " " * 10))
        lines.append("")
        width = max((len(c.definition.title) for c in self.checks.values()), default=0)
        for check in self.checks.values():
            lines.append(
                f"  {_MARKS[check.status]:8s}{check.definition.title:{width}s}  {check.message}"
            )
        if self.not_made:
            lines += ["", *(_wrap(text, "  ") for text in self.not_made)]
        return "\n".join(lines)

    def __repr__(self):
        return f"<DiagnosticsReport: {self.verdict}, {len(self.failed)} of {len(self.checks)} checks not ok>"

    def _repr_html_(self):
        from bayesglm.diagnostics import (
            _page,  # draws pictures: matplotlib is imported only for this
        )

        return _page.fragment(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON; the schema is in docs/report.md."""
        table = self.table
        evidence = self._evidence
        estimates = evidence.estimates
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "ok": self.ok,
            "headline": self.headline,
            "checks": {name: check.to_dict() for name, check in self.checks.items()},
            "not_made": self.not_made,
            "settings": _json(evidence.settings),
            "neurons": [
                {"neuron": plain(label), **{k: _json(v) for k, v in row.items()}} for label, row in table.iterrows()
            ],
            "parameters": None if estimates is None else [
                {"parameter": name, **{k: _json(v) for k, v in row.items()}} for name, row in estimates.iterrows()
            ],
        }  # fmt: skip

    def save(self, filename) -> None:
        """Write the report to a file.

        Parameters
        ----------
        filename : str or Path
            ``.html`` (one file with everything in it) or ``.json``.

        Raises
        ------
        ValueError
            For another suffix.
        """
        path = Path(filename)
        if path.suffix == ".json":
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        elif path.suffix in (".html", ".htm"):
            from bayesglm.diagnostics import _page

            text = _page.page(self)
        else:
            raise ValueError(
                f"`filename` must end in '.html' or '.json', but {str(filename)!r} was given."
            )
        path.write_text(text, encoding="utf-8")


def _not_seen(found: Responses) -> list[str]:
    """Return what was not looked at in the data, in words."""
    missing = []
    if found.order is None:
        missing.append(
            "Rows were not said to be a time series, so that no check looked at their order (dependence, drift"
            + (", time rescaling of spikes" if _families.is_discrete(found.model) else "")
            + "): pass `time=True` or `trials=`."
        )
    elif found.order.trial is None:
        missing.append("No trials were told: pass `trials=` where there are any.")
    if (found.weight % 1.0 != 0).any():
        missing.append("With weights that are not whole, no check looked for repeated rows.")
    if not (found.classes or _families.is_known(found.model)):
        missing.append("The family is not known in closed form: no check of data against model.")
    return missing


def _wrap(text: str, lead: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))


def _json(value):
    """Return a value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_json(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return number(value)
    value = plain(value)
    return value if isinstance(value, (str, bool, int, float, type(None))) else str(value)
