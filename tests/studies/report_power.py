"""How often a report is not OK: for healthy models, and for models with a known fault.

``python -m tests.studies.report_power [--quick] [--sets N] [--only TEXT]`` prints the tables of docs/report.md. Each
line is a kind of data and a model, fitted to many data sets; a model is one neuron, with a report of its own.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import signal, special

import bayesglm as nmo

SETS, QUICK_SETS = 40, 2


class Case(NamedTuple):
    """A kind of data, and the model that is fitted to them.

    Attributes
    ----------
    draw
        From random numbers and the number of rows to X and y, or to X, y and more arguments of `fit` and `report`.
    model
        Makes the estimator.
    n : int
        Rows.
    report : dict
        More arguments of `report`.
    reason : str
        Why a fault is found in less than four of five data sets.
    """

    name: str
    model: Callable
    draw: Callable
    n: int
    report: dict = {}
    reason: str = ""


def features(rng, n, p=3):
    """Return independent normal features."""
    return rng.normal(size=(n, p))


def smooth(rng, n, p=3, rows=20.0):
    """Return features that change slowly: autoregressive with a time constant in rows."""
    rho = np.exp(-1.0 / rows)
    noise = rng.normal(size=(n + 500, p)) * np.sqrt(1.0 - rho**2)
    return signal.lfilter([1.0], [1.0, -rho], noise, axis=0)[500:]


def glm(family="Poisson", link=None, **keywords):
    """Return a function that makes an estimator."""
    return lambda: nmo.glm.GLM(family, link, **keywords)


COEF = np.array([0.4, -0.3, 0.2])


def counts(rng, eta):
    """Draw Poisson counts."""
    return rng.poisson(np.exp(eta)).astype(float)


def ones(rng, p):
    """Draw zeros and ones."""
    return (rng.random(p.shape) < p) * 1.0


# -- healthy -----------------------------------------------------------------------------------------


def healthy(family, X=features, level=0.0):
    """Return a function that draws data of the family."""

    def draw(rng, n):
        x = X(rng, n)
        eta = level + x @ COEF
        if family == "Poisson":
            return x, counts(rng, eta)
        if family == "NegativeBinomial":
            return x, rng.poisson(np.exp(eta) * rng.gamma(1.0, 1.0, n)).astype(float)
        if family == "Bernoulli":
            return x, ones(rng, special.expit(eta))
        if family == "Gamma":
            return x, rng.gamma(2.0, np.exp(eta) / 2.0)
        return x, eta + rng.normal(size=n)

    return draw


def labels(rng, n):
    """Draw three classes."""
    X = features(rng, n)
    return X, np.argmax(X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(n, 3)), axis=1)


def badly_scaled(rng, n):
    """Return features that are correlated, and of very different units."""
    X = features(rng, n)
    X[:, 1] = 0.9 * X[:, 0] + np.sqrt(0.19) * X[:, 1]
    return X


def in_other_units(draw):
    """Return a function that changes the units of the features after drawing the responses."""

    def changed(rng, n):
        X, y = draw(rng, n)
        return X * [1e4, 1e-3, 1.0] + [1e5, 0.0, -3.0], y

    return changed


def aggregated(rng, n):
    """Draw binomial data: each row twice, for hits and misses, with weights that count them."""
    X = features(rng, n)
    hits = rng.binomial(20, special.expit(X @ COEF))
    y = np.concatenate([np.ones(n), np.zeros(n)])
    return np.concatenate([X, X]), y, {"sample_weight": np.concatenate([hits, 20.0 - hits])}


def table_of_counts(rng, n):
    """Draw Poisson counts of few cells, each with the weight of how often it occurs."""
    cell = rng.integers(2, size=(n, 3)) * 1.0
    rows, times = np.unique(
        np.column_stack([cell, counts(rng, cell @ COEF)]), axis=0, return_counts=True
    )
    return rows[:, :3], rows[:, 3], {"sample_weight": times * 1.0}


def with_offset(rng, n):
    """Draw counts with exposures that differ."""
    X, offset = features(rng, n), rng.normal(size=n)
    return X, counts(rng, X @ COEF + offset), {"offset": offset}


def masked(rng, n):
    """Draw counts that do not depend on the last feature, which is masked."""
    X = features(rng, n)
    return X, counts(rng, X[:, :2] @ COEF[:2])[:, None]


def missing(rng, n):
    """Draw counts, a tenth of which is missing."""
    X, y = healthy("Poisson")(rng, n)
    return X, np.where(rng.random(n) < 0.1, np.nan, y)


def indicators(rng, n):
    """Draw counts with a categorical and a count feature."""
    X = np.column_stack([np.eye(3)[rng.integers(3, size=n)][:, 1:], rng.poisson(1.0, n)])
    return X, counts(rng, X @ COEF - 0.5)


def history(rng, n):
    """Draw spikes that depend on earlier spikes, which are features."""
    y, rate = np.zeros(n), 0.2
    for t in range(n):
        past = y[max(0, t - 5) : t].sum()
        y[t] = rng.random() < rate * np.exp(-0.7 * past)
    X = np.column_stack([np.concatenate([np.zeros(k), y[:-k]]) for k in range(1, 6)])
    return X, y


TIME = {"time": True}
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.01}


def _mask():
    return nmo.glm.PopulationGLM(feature_mask=np.array([[1], [1], [0]]))


def _classifier():
    return nmo.glm.ClassifierGLM(3, regularizer_strength=1e-3)


HEALTHY = [
    Case(f"{family}{', time series' if time else ''}", glm(family, link),
         healthy(family, smooth if time else features), n, TIME if time else {})
    for family, link in (("Poisson", None), ("NegativeBinomial", None), ("Bernoulli", None), ("Gamma", "exp"),
                         ("Gaussian", None))
    for n in (150, 1500) for time in (False, True)
] + [
    Case("classes", _classifier, labels, 150), Case("classes, time series", _classifier, labels, 1500, TIME),
    Case("Poisson, rare", glm(), healthy("Poisson", level=-3.0), 1500),
    Case("Bernoulli, rare, time series", glm("Bernoulli"), healthy("Bernoulli", smooth, -4.0), 5000, TIME),
    Case("Poisson, many", glm(), healthy("Poisson", level=4.0), 1500),
    Case("Poisson, trials", glm(), healthy("Poisson", smooth), 1500, {"rows of a trial": 30}),
    Case("Gaussian, short trials", glm("Gaussian"), healthy("Gaussian"), 600, {"rows of a trial": 4}),
    Case("Bernoulli, rare, trials", glm("Bernoulli"), healthy("Bernoulli", smooth, -2.5), 3000,
         {"rows of a trial": 50}),
    Case("Poisson, units and correlation", glm(), in_other_units(healthy("Poisson", badly_scaled)), 1500),
    Case("Gaussian, units and correlation", glm("Gaussian"), in_other_units(healthy("Gaussian", badly_scaled)), 150),
    Case("Poisson, Ridge", glm(**RIDGE), healthy("Poisson"), 150),
    Case("Gaussian, Lasso", glm("Gaussian", regularizer="Lasso", regularizer_strength=0.05), healthy("Gaussian"), 1500),
    Case("Bernoulli, aggregated", glm("Bernoulli"), aggregated, 150),
    Case("Poisson, table of counts", glm(), table_of_counts, 1500),
    Case("Poisson, offset", glm(), with_offset, 1500), Case("Poisson, mask", _mask, masked, 1500),
    Case("Poisson, missing, time series", glm(), missing, 1500, TIME),
    Case("Poisson, indicators", glm(), indicators, 1500),
    Case("Bernoulli, spike history", glm("Bernoulli", "exp", regularizer="Ridge", regularizer_strength=1e-3), history,
         1500, TIME),
]  # fmt: skip


# -- faults ------------------------------------------------------------------------------------------


def fault(draw_from_eta, X=features, level=0.0):
    """Return a function that draws features, and responses from the predictor."""

    def draw(rng, n):
        x = X(rng, n)
        return x, draw_from_eta(rng, level + x @ COEF, x)

    return draw


def overdispersed(rng, eta, x):
    return rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, eta.shape)).astype(float)


def underdispersed(rng, eta, x):
    return rng.binomial(10, np.clip(np.exp(eta) / 10.0, 0.0, 1.0)).astype(float)


def zero_inflated(rng, eta, x):
    return counts(rng, eta) * (rng.random(eta.shape) < 0.75)


def quadratic(draw, strength):
    return lambda rng, eta, x: draw(rng, eta + strength * (x[:, 0] ** 2 - 1.0))


def product(draw, strength):
    return lambda rng, eta, x: draw(rng, eta + strength * x[:, 0] * x[:, 1])


def logistic(rng, eta):
    return ones(rng, special.expit(eta))


def gaussian(rng, eta):
    return eta + rng.normal(size=eta.shape)


def through(function, draw=None):
    """Return responses with the mean that another inverse link gives, at a wider range of predictors."""
    return lambda rng, eta, x: (draw or (lambda rng, mean: rng.poisson(mean).astype(float)))(
        rng, function(eta)
    )


def cloglog(eta):
    return -np.expm1(-np.exp(2.5 * eta))


def softplus(eta):
    return 2.0 * np.log1p(np.exp(3.0 * eta))


def square(eta):
    return np.square(np.maximum(2.5 + 2.0 * eta, 0.0))


def heavy_tails(rng, eta, x):
    return eta + rng.standard_t(3.0, eta.shape)


def spread(rng, eta, x):
    return eta + np.exp(0.5 * x[:, 0]) * rng.normal(size=eta.shape)


def outliers(rng, eta, x):
    y = gaussian(rng, eta)
    y[rng.choice(len(y), max(1, len(y) // 100), replace=False)] += 8.0
    return y


def drifting(draw, strength):
    return lambda rng, eta, x: draw(rng, eta + strength * np.linspace(-1.0, 1.0, len(eta)))


def autoregressive(rho):
    def draw(rng, eta, x):
        noise = rng.normal(size=len(eta) + 500) * np.sqrt(1.0 - rho**2)
        return eta + signal.lfilter([1.0], [1.0, -rho], noise)[500:]

    return draw


def hidden(draw, strength=0.8, rows=20.0):
    """Return responses with a feature that the model does not have: slow, or (0 rows) new in each row."""

    def drawn(rng, eta, x):
        z = smooth(rng, len(eta), 1, rows)[:, 0] if rows else rng.normal(size=len(eta))
        return draw(rng, eta + strength * z)

    return drawn


def of_trials(draw, rows, strength):
    def drawn(rng, eta, x):
        trial = np.arange(len(eta)) // rows
        return draw(rng, eta + strength * rng.normal(size=trial[-1] + 1)[trial])

    return drawn


def copied(draw, times):
    """Return each row so many times."""

    def drawn(rng, n):
        X, y = draw(rng, n // times)
        return np.repeat(X, times, axis=0), np.repeat(y, times)

    return drawn


def spikes(effect, rate=0.1):
    """Return spikes whose rate is multiplied by a function of the rows since the last one, and of the row."""

    def draw(rng, eta, x):
        y, last = np.zeros(len(eta)), -1000
        chance, mean = rng.random(len(eta)), rate * np.exp(eta - 0.1)
        for t in range(len(eta)):
            if chance[t] < mean[t] * effect(t - last, t):
                y[t], last = 1.0, t
        return y

    return draw


def refractory(rows):
    return spikes(lambda since, t: since > rows)


def relative(rows):
    return spikes(lambda since, t: 1.0 - np.exp(-since / rows))


def bursting(since, t):
    return 4.0 if since <= 3 else 0.8


def rhythmic(since, t):
    return 1.0 + 0.8 * np.cos(2.0 * np.pi * t / 12.0)


def collinear(rng, n):
    X = features(rng, n)
    X[:, 2] = X[:, 0] + 0.01 * X[:, 2]
    return X, counts(rng, X[:, :2] @ COEF[:2])


def separated(rng, n):
    X = features(rng, n)
    return X, (X[:, 0] > 0) * 1.0


FEW = "so few rows say too little: the next line has more"


def each(name, model, draw, sizes=(150, 1500), report=None, reason=FEW):
    """Return a case for each number of rows; the reason counts for the first."""
    return [
        Case(name, model, draw, n, report or {}, reason if n == sizes[0] else "") for n in sizes
    ]


def fault_cases():
    """Yield all faults."""
    poisson, bernoulli, normal = glm(), glm("Bernoulli"), glm("Gaussian")
    yield from each("overdispersion (gamma of shape 2)", poisson, fault(overdispersed, level=0.3))
    yield from each("underdispersion (binomial of 10)", poisson, fault(underdispersed, level=1.2))
    yield from each("zero inflation (a quarter)", poisson, fault(zero_inflated, level=0.7))
    yield from each("quadratic term, Poisson", poisson, fault(quadratic(counts, 0.25)))
    yield from each("quadratic term, Bernoulli", bernoulli, fault(quadratic(logistic, 0.5)))
    yield from each("quadratic term, Gaussian", normal, fault(quadratic(gaussian, 0.3)))
    yield from each("product of features, Poisson", poisson, fault(product(counts, 0.3)))
    yield from each("product of features, Bernoulli", bernoulli, fault(product(logistic, 0.6)))
    yield from each("product of features, Gaussian", normal, fault(product(gaussian, 0.4)))
    yield from each("cloglog in place of logistic", bernoulli, fault(through(cloglog, ones)), (1500, 10_000), {},
                    "a logistic curve comes close, and misses 3 to 5 % of what could be explained")  # fmt: skip
    yield from each("softplus in place of exp", poisson, fault(through(softplus)))
    yield from each("square in place of exp", poisson, fault(through(square)))
    yield from each("heavy tails (t with 3 degrees)", normal, fault(heavy_tails))
    yield from each("spread grows with a feature", normal, fault(spread))
    yield from each("outliers (1 %, 8 sd)", normal, fault(outliers))
    yield from each("drift, Gaussian", normal, fault(drifting(gaussian, 0.6)), report=TIME)
    yield from each("drift, Poisson", poisson, fault(drifting(counts, 0.6)), report=TIME)
    yield from each("drift, Bernoulli", bernoulli, fault(drifting(logistic, 1.0)), report=TIME)
    yield from each("AR(1) of 0.9", normal, fault(autoregressive(0.9)), (150, 1000), TIME)
    yield from each("AR(1) of 0.3", normal, fault(autoregressive(0.3)), report=TIME)
    yield from each("AR(1) of 0.9, order not told", normal, fault(autoregressive(0.9)), (1000,), {},
                    "only the order of rows shows it: pass `time=True`")  # fmt: skip
    yield from each("rows copied 5 times, Gaussian", normal, copied(healthy("Gaussian"), 5))
    yield from each("rows copied 5 times, Poisson", poisson, copied(healthy("Poisson"), 5))
    trials = {"rows of a trial": 30}
    yield from each(
        "trials differ (sd 0.5)", normal, fault(of_trials(gaussian, 30, 0.5)), report=trials
    )
    yield from each("slow feature missing, Poisson", poisson, fault(hidden(counts)), report=TIME)
    yield from each(
        "slow feature missing, Bernoulli", bernoulli, fault(hidden(logistic, 1.5)), report=TIME
    )
    yield from each(
        "feature missing, new in each row, Poisson", poisson, fault(hidden(counts, rows=0))
    )
    yield from each("feature missing, new in each row, Bernoulli", bernoulli, fault(hidden(logistic, 1.5, 0)),
                    (1500,), {}, "nothing shows it: zeros and ones have one distribution for each mean")  # fmt: skip
    rare, long = glm("Bernoulli", "exp"), (1500, 10_000)
    yield from each(
        "refractory for 2 of 10 rows between spikes", rare, fault(refractory(2)), long, TIME
    )
    yield from each(
        "refractory for 8 of 10 rows between spikes", rare, fault(refractory(8)), long, TIME
    )
    yield from each(
        "relative refractory, time constant 10 rows", rare, fault(relative(10.0)), long, TIME
    )
    yield from each("bursts", rare, fault(spikes(bursting)), long, TIME)
    yield from each("rhythm of 12 rows", rare, fault(spikes(rhythmic)), long, TIME)
    yield from each("collinear features", poisson, collinear)
    yield from each("separation", bernoulli, separated)


# -- running -----------------------------------------------------------------------------------------


def verdict_of(case: Case, seed: int):
    """Return the verdict of one data set, and the checks that are not ok."""
    X, y, *more = case.draw(np.random.default_rng(seed), case.n)
    more = more[0] if more else {}
    asked = dict(case.report)
    if "rows of a trial" in asked:
        asked = {"trials": np.arange(case.n) // asked["rows of a trial"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation is warned of, and reported
        report = case.model().fit(X, y, **more).report(X, y, **more, **asked)
    return report.verdict, [check.name for check in report.failed]


def run(case: Case, sets: int, seed: int = 0):
    """Return how many data sets are not OK, and by which checks."""
    found = [verdict_of(case, seed + 1000 * k) for k in range(sets)]
    seen = Counter(name for _, names in found for name in names)
    return sum(verdict != "OK" for verdict, _ in found), seen


def line(case: Case, bad: int, seen: Counter, sets: int) -> str:
    """Return a row of the table."""
    checks = ", ".join(f"`{name}` {100 * k / sets:.0f}" for name, k in seen.most_common(4))
    reason = case.reason if bad < 0.8 * sets else ""
    return f"| {case.name} | {case.n} | {100 * bad / sets:.0f} | {checks} | {reason} |"


def main(arguments=None) -> dict[str, tuple[int, int]]:
    """Print the tables; return the number of data sets that are not OK, and of all, of healthy and of sick models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SETS} data sets of each kind")
    parser.add_argument(
        "--sets", type=int, default=None, help=f"data sets of each kind, {SETS} by default"
    )
    parser.add_argument("--part", choices=("healthy", "fault"), help="one of the two tables")
    parser.add_argument("--only", default="", help="cases whose names contain this text")
    options = parser.parse_args(arguments)
    sets = options.sets or (QUICK_SETS if options.quick else SETS)
    totals = {}
    for title, cases in (("healthy", HEALTHY), ("fault", list(fault_cases()))):
        cases = [
            case for case in cases if options.only in case.name and options.part in (None, title)
        ]
        print(
            f"\n| {title} | rows | not OK, % | by which checks, % | reason |\n|---|---|---|---|---|"
        )
        total = 0
        for case in cases:
            bad, seen = run(case, sets)
            total += bad
            print(line(case, bad, seen, sets), flush=True)
        if not cases:
            continue
        totals[title] = (total, sets * len(cases))
        print(f"\n{title}: {total} of {sets * len(cases)} not OK", flush=True)
    return totals


if __name__ == "__main__":
    main()
