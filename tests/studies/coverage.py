"""How often intervals hold the truth, and tests reject a true null hypothesis, by kind of standard error.

``python -m tests.studies.coverage [--quick] [--only TEXT]`` prints the table of docs/standard-errors.md. Each neuron of
a population is one data set; populations differ in their features. Under a kind stand the percentages of 95 %
intervals, over all parameters, that hold the truth, and of p-values below 0.05 of a coefficient that is zero. The Monte
Carlo error is that of the means of the populations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

import bayesglm as nmo

POPULATIONS, NEURONS, SAMPLED = 20, 100, 5
COEF, INTERCEPT = np.array([0.0, 0.4, -0.3]), 0.5
KINDS = {
    "information": {},
    "HC1": {"robust": "HC1"},
    "HC3": {"robust": True},
    "CR1": {"robust": "CR1"},
    "CR3": {"robust": "cluster"},
    "HAC, 6 lags": {
        "robust": "HAC",
        "maxlags": 6,
    },  # 4 (n / 100)^(2/9), a usual choice, at n = 1000
    "HAC": {"robust": "HAC"},
    "draws": None,
}
QUIET = {"progress_bar": False, "num_samples": 250}


class Case(NamedTuple):
    """A kind of data, and the errors that are asked for.

    Attributes
    ----------
    draw
        From random numbers and a number of neurons to features, responses and arguments of `summary` by kind.
    """

    name: str
    family: str
    draw: Callable
    kinds: tuple[str, ...] = ("information", "HC1", "HC3")


def independent(n: int, sd=lambda X: 1.0):
    """Return a draw of normal responses of n rows, whose standard deviation may depend on the features."""

    def draw(rng, neurons):
        X = rng.normal(size=(n, 3))
        noise = np.reshape(sd(X), (-1, 1)) * rng.normal(size=(n, neurons))
        return X, predictor(X) + noise, {}

    return draw


def counts(n: int, dispersion: float):
    """Return a draw of counts whose variance is mean + dispersion * mean**2."""

    def draw(rng, neurons):
        X = rng.normal(size=(n, 3))
        rate = np.exp(predictor(X)) * np.ones(neurons)
        if dispersion > 0:
            rate = rate * rng.gamma(1.0 / dispersion, dispersion, size=rate.shape)
        return X, rng.poisson(rate).astype(float), {}

    return draw


def clustered(n_groups: int, size: int, share: float = 0.3):
    """Return a draw in which groups have a part of their features and of their noise in common."""

    def draw(rng, neurons):
        groups = np.repeat(np.arange(n_groups), size)

        def mixed(*shape):
            common, own = (
                rng.normal(size=(n_groups, *shape)),
                rng.normal(size=(len(groups), *shape)),
            )
            return np.sqrt(share) * common[groups] + np.sqrt(1.0 - share) * own

        X = mixed(3)
        more = {"CR1": {"groups": groups}, "CR3": {"groups": groups}}
        return X, predictor(X) + mixed(neurons), more

    return draw


def autoregressive(n: int, rho: float, trial: int | None = None, missing: float = 0.0):
    """Return a draw in which each feature and the noise follow an AR(1) process, anew in each trial.

    A share of the responses is missing, the same rows for all neurons.
    """
    trial = n if trial is None else trial

    def process(rng, columns):
        noise = rng.normal(size=(n // trial, trial, columns))
        noise[:, 0] /= np.sqrt(1.0 - rho**2)  # stationary from the start
        return lfilter([1.0], [1.0, -rho], noise, axis=1).reshape(n, columns) * np.sqrt(1 - rho**2)

    def draw(rng, neurons):
        X = process(rng, 3)
        y = predictor(X) + process(rng, neurons)
        y[rng.uniform(size=n) < missing] = np.nan
        return X, y, dict.fromkeys(("HAC", "HAC, 6 lags"), {"trials": np.arange(n) // trial})

    return draw


def predictor(X) -> np.ndarray:
    """Return the true mean, (rows, 1), or its logarithm."""
    return (X @ COEF + INTERCEPT)[:, None]


ALL = ("information", "HC1", "HC3", "HAC", "draws")
GROUPED = ("information", "HC3", "CR1", "CR3")
TIME = ("information", "HC3", "HAC, 6 lags", "HAC")
CASES = (
    Case("normal, n 20", "Gaussian", independent(20), ALL),
    Case("normal, n 30", "Gaussian", independent(30), ALL),
    Case("normal, n 200", "Gaussian", independent(200), ALL),
    Case("sd grows with a feature, n 30", "Gaussian", independent(30, lambda X: np.exp(0.7 * X[:, 1]))),
    Case("sd grows with a feature, n 200", "Gaussian", independent(200, lambda X: np.exp(0.7 * X[:, 1]))),
    Case("Poisson, n 200", "Poisson", counts(200, 0.0), ALL),
    Case("Poisson, overdispersed by 1, n 200", "Poisson", counts(200, 1.0)),
    Case("10 groups of 20, correlation 0.3", "Gaussian", clustered(10, 20), GROUPED),
    Case("40 groups of 20, correlation 0.3", "Gaussian", clustered(40, 20), GROUPED),
    Case("AR(1) 0.5, n 1000", "Gaussian", autoregressive(1000, 0.5), TIME),
    Case("AR(1) 0.9, n 1000", "Gaussian", autoregressive(1000, 0.9), TIME),
    Case("AR(1) 0.9, n 1000, half missing", "Gaussian", autoregressive(1000, 0.9, missing=0.5), TIME),
    Case("AR(1) 0.9, 50 trials of 20", "Gaussian", autoregressive(1000, 0.9, 20), TIME),
)  # fmt: skip


class Rate(NamedTuple):
    """A percentage and its Monte Carlo error."""

    percent: float
    error: float

    def __str__(self):
        return f"{self.percent:.1f} ± {self.error:.1f}"


def _rate(means) -> Rate:
    means = 100.0 * np.asarray(means)
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.nan
    return Rate(float(means.mean()), float(error))


def rates(case: Case, populations=POPULATIONS, neurons=NEURONS, sampled=SAMPLED, seed=0):
    """Return for each kind the rates of intervals that hold the truth, and of rejections (NaN for draws)."""
    rng = np.random.default_rng(seed)
    found: dict[str, list] = {kind: [] for kind in case.kinds}
    truth = np.append(COEF, INTERCEPT)[:, None]
    for population in range(populations):
        X, y, more = case.draw(rng, neurons)
        model = nmo.glm.PopulationGLM(case.family).fit(X, y)
        for kind in case.kinds:
            if kind == "draws" and population >= sampled:
                continue
            if kind == "draws":
                table = _sampled(case.family, X, y)
            else:
                table = model.summary(X, y, prob=0.95, **KINDS[kind], **more.get(kind, {}))
            low, high = (table[end].to_numpy().reshape(len(truth), -1) for end in ("low", "high"))
            rejects = (
                table["p_value"][:neurons] < 0.05 if "p_value" in table else np.full(1, np.nan)
            )
            found[kind].append((((low <= truth) & (truth <= high)).mean(), rejects.mean()))
    return {
        kind: tuple(map(_rate, zip(*each, strict=True))) for kind, each in found.items() if each
    }


def _sampled(family: str, X, y):
    model = nmo.glm.PopulationGLM(family).sample_posterior(X, y, **QUIET)
    table = model.summary(prob=0.95)
    return table[~table.index.str.startswith("scale")]


def line(case: Case, found) -> str:
    """Return a row of the table."""
    cells = (
        "; ".join(str(rate) for rate in found.get(kind, ()) if rate.percent >= 0) for kind in KINDS
    )
    return f"| {case.name} | {' | '.join(cells)} |"


def header() -> str:
    """Return the first two lines of the table."""
    names = ("data", *KINDS)
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few data sets, no draws")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    arguments = parser.parse_args()
    sizes = {"populations": 4, "neurons": 50, "sampled": 0} if arguments.quick else {}
    print(header())
    for case in CASES:
        if arguments.only in case.name:
            print(line(case, rates(case, **sizes)), flush=True)


if __name__ == "__main__":
    main()
