"""The timed rows: which problem, against whom, and what is asked of the ratio."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import designs, nemos_peer
from .clocks import Peak, alternate, compiles, quiet, search
from .objective import gap, optimum
from .peers import OURS, entries_for, our_fit

TARGET = 1e-6


@dataclass(frozen=True)
class Settings:
    """How much is run.

    Parameters
    ----------
    scale
        Factor on numbers of rows and of neurons; below 1 only to try the script out.
    budget
        Seconds after which an entry is not repeated.
    patience
        Seconds that the search of an entry's tolerance may take.
    nemos
        Python of an environment with NeMoS.
    """

    scale: float = 1.0
    repeats: int = 7
    budget: float = 60.0
    patience: float = 120.0
    nemos: str = ""

    def rows(self, n) -> int:
        """Return a scaled number of rows."""
        return max(200, round(n * self.scale))

    def neurons(self, n) -> int:
        """Return a scaled number of neurons."""
        return max(3, round(n * self.scale))


@dataclass(frozen=True)
class Row:
    """A timed row.

    Parameters
    ----------
    make : function (settings) -> Problem
    against
        Labels of the peers; the fastest that reaches the gap counts.
    asked
        Largest ratio of our time to theirs.
    within
        Largest time of ours in seconds.
    checked
        Number of responses that have a reference and that looped peers fit, whose times are scaled up; None for all.
    """

    title: str
    make: Callable
    against: tuple
    asked: float | None = None
    within: float | None = None
    checked: int | None = None


SKLEARN = ("sklearn lbfgs", "sklearn newton-cholesky")


def _problem(design, n, p, penalty="Ridge", neurons=None, **kwargs):
    def make(settings):
        responses = 1 if neurons is None else settings.neurons(neurons)
        return designs.problem(design, settings.rows(n), p, penalty, responses, **kwargs)

    return make


ROWS = {
    "small-ridge": Row(
        "1000 x 10 iid, Poisson ridge",
        _problem("iid", 1000, 10, rate=0.5),
        (*SKLEARN, "glum", "statsmodels"), 0.6, 3e-3,
    ),
    "hard-ridge": Row(
        "1e5 x 50 hard, ridge", _problem("hard", 100_000, 50), (*SKLEARN, "glum"), 0.5
    ),
    "iid-ridge": Row(
        "1e5 x 50 iid, ridge", _problem("iid", 100_000, 50), (*SKLEARN, "glum"), 1.0
    ),
    "hard-lasso": Row(
        "1e5 x 50 hard, lasso", _problem("hard", 100_000, 50, "Lasso"), ("glum", "skglm"), 0.8
    ),
    "population-ridge": Row(
        "2e4 x 50 hard, 100 neurons, ridge",
        _problem("hard", 20_000, 50, neurons=100),
        ("sklearn newton-cholesky", "glum"), 0.12,
    ),
    "population-lasso": Row(
        "2e4 x 50 hard, 100 neurons, lasso",
        _problem("hard", 20_000, 50, "Lasso", neurons=100),
        ("glum", "skglm"), 0.35,
    ),
    "population-1000": Row(
        "1e5 x 100 hard, 1000 neurons, ridge",
        _problem("hard", 100_000, 100, neurons=1000),
        ("glum",), 0.15, checked=10,
    ),
    "group-lasso": Row(
        "1e5 x 200 hard, group lasso, 10 groups of 20",
        lambda settings: designs.grouped(settings.rows(100_000)),
        ("skglm",), 1.0,
    ),
    "history-group-lasso": Row(
        "1e5 x 200 spike history with coupling, group lasso by sender",
        lambda settings: designs.coupling(settings.rows(100_000)),
        ("skglm",), 1.0,
    ),
    "history-ridge": Row(
        "1e5 x 80 spike history with coupling, 10 neurons, ridge",
        lambda settings: designs.coupling(
            settings.rows(100_000), n_basis=8, penalty="Ridge", n_responses=10
        ),
        ("sklearn newton-cholesky", "glum"),
    ),
    "digits": Row(
        "1797 x 64 digits, softmax of 10 classes, ridge",
        lambda settings: designs.digits(settings.rows(1797)),
        ("sklearn logistic",), 0.5,
    ),
}  # fmt: skip


def run(row: Row, settings: Settings, target=TARGET) -> dict:
    """Run a row and return what was measured, ready for JSON."""
    problem = row.make(settings)
    known = np.arange(problem.n_responses)[: row.checked]
    part = problem.subset(known)
    best = optimum(part)[2]
    first = _first_fit(problem, part)
    entries = entries_for(problem, row.against) + _nemos(row, problem, settings)
    results = {entry.label: _found(entry, part, best, target, settings) for entry in entries}
    _time(row, problem, part, best, entries, results, settings, target)
    return {
        "title": row.title, "asked": row.asked, "within": row.within, "against": row.against,
        "shape": [*problem.X.shape, problem.n_responses], "entries": results,
        "read": _read_seconds(problem.X), **first, **_memory(problem, results[OURS]["tol"]),
    }  # fmt: skip


def _nemos(row, problem, settings):
    entry = nemos_peer.entry(settings.nemos) if settings.nemos else None
    return [entry] if entry and row.checked is None and entry.can(problem) else []


def _first_fit(problem, part):
    """Fit once before any clock runs, with all that is compiled for it."""
    with quiet(), compiles() as seen:
        begin = time.perf_counter()
        our_fit(problem, 1e-2)
        seconds = time.perf_counter() - begin
        if part.n_responses < problem.n_responses:
            our_fit(part, 1e-2)
    return {"first_fit": seconds, "compiles": len(seen)}


def _found(entry, part, best, target, settings):
    if not entry.installed:
        return {"note": "not installed", "reached": False, "gap": np.inf, "tol": None}
    with (
        quiet(),
        contextlib.suppress(Exception),
    ):  # compile what compiles; a failure shows in the search
        few = replace(part, X=part.X[:300].copy(), y=part.y[:300, :1].copy())
        entry.fit(few, entry.ladder[0])
    return search(entry, part, best, target, settings.patience)


def _time(row, problem, part, best, entries, results, settings, target):
    """Time in turn all entries that reach the target, and judge them by what they return while timed."""
    timed = [entry for entry in entries if results[entry.label]["reached"]]
    calls = {entry.label: _call(entry, problem, part, results) for entry in timed}
    for label, (times, models) in alternate(calls, settings.repeats, settings.budget).items():
        entry = next(entry for entry in timed if entry.label == label)
        coef, intercept = entry.params(models)
        known = part.n_classes or part.n_responses
        achieved = gap(part.value(coef[:, :known], intercept[:known]), best)
        if achieved < -1e-9:
            raise ArithmeticError(f"{label} is better than the reference by {-achieved:.1e}.")
        factor = problem.n_responses / part.n_responses if entry.looped else 1.0
        results[label] |= {
            "seconds": float(np.median(times)) * factor,
            "times": times,
            "gap": achieved,
            "reached": achieved <= target,
            "extrapolated": factor > 1,
        }


def _call(entry, problem, part, results):
    data, tol = part if entry.looped else problem, results[entry.label]["tol"]
    return lambda: entry.fit(data, tol)


def _read_seconds(X) -> float:
    """Time of one product of X with a vector in NumPy: what reading X once costs."""
    vector = np.ones(X.shape[1])
    times, _ = alternate({"read": lambda: X @ vector}, 5, 10.0)["read"]
    return float(np.median(times))


def _memory(problem, tol) -> dict:
    """Peak of a warm fit beyond X and y, which were there before, over the size of X."""
    with quiet(), compiles() as seen, Peak() as peak:
        our_fit(problem, tol)
    return {"peak": peak.above_start, "X_bytes": problem.X.nbytes, "warm_compiles": len(seen)}
