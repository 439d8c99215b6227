"""Simulation-based calibration: ranks of true parameters among draws of their posteriors are uniform.

Each simulated data set is a neuron of one population. Parameters come from the priors (of intercepts and dispersions:
given here), responses from the model. Ranks of each parameter over the data sets are compared with the uniform
distribution by a chi-square test, at a Bonferroni level over the whole table.

    python -m tests.studies.sbc [--quick] [--sets 200] [--only NAME] [--method nuts laplace] [--file]

References
----------
Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference algorithms with simulation-based
calibration. arXiv:1804.06788
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.infer import Predictive
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest does

from containers import on_disk  # noqa: E402
from own_priors import Gains  # noqa: E402

import bayesglm as nmo  # noqa: E402
from bayesglm import _design  # noqa: E402
from bayesglm.posterior import good_k  # noqa: E402

BINS = 10
LEVEL = 1e-2
# Draws of each chain, of which every fifth is ranked, so that they are all but independent.
NUM_SAMPLES, THIN = 250, 5
SCALE_PRIOR = dist.LogNormal(-1.0, 0.4)
SCALED = ("Gaussian", "Gamma", "NegativeBinomial", "ZeroInflatedPoisson")


@dataclass(frozen=True)
class Case:
    """A model and a design."""

    family: str
    kind: str
    link: str | None = None
    d: int = 2
    intercept: tuple = (0.3, 0.5)
    how: str = ""  # "mask", "offset" or "weights"
    positive: bool = False  # features and intercepts that keep a mean of 1 / eta positive


CASES = {
    "Poisson, Lasso": Case("Poisson", "Lasso"),
    "Bernoulli, GroupLasso": Case("Bernoulli", "GroupLasso"),
    "Gaussian, ElasticNet": Case("Gaussian", "ElasticNet"),
    "NegativeBinomial, Ridge": Case("NegativeBinomial", "Ridge"),
    "NegativeBinomial, Lasso": Case("NegativeBinomial", "Lasso"),
    "Gamma (exp), Lasso": Case("Gamma", "Lasso", "exp"),
    "Gamma (exp), Ridge": Case("Gamma", "Ridge", "exp"),
    "Gamma (1/x), Ridge": Case("Gamma", "Ridge", "one_over_x", intercept=(1.5, 0.4), positive=True),
    "Gamma (1/x), Lasso": Case("Gamma", "Lasso", "one_over_x", intercept=(1.5, 0.4), positive=True),
    "Poisson, Ridge, masks": Case("Poisson", "Ridge", how="mask"),
    "Poisson, Lasso, offsets": Case("Poisson", "Lasso", how="offset"),
    "Bernoulli, Ridge, weights": Case("Bernoulli", "Ridge", how="weights"),
    "Poisson, Ridge, d=20, low rate": Case("Poisson", "Ridge", d=20, intercept=(-2.0, 0.5)),
    "Poisson, Lasso, d=20, low rate": Case("Poisson", "Lasso", d=20, intercept=(-2.0, 0.5)),
    "Bernoulli, ElasticNet, d=20": Case("Bernoulli", "ElasticNet", d=20),
    "NegativeBinomial, GroupLasso, d=20": Case("NegativeBinomial", "GroupLasso", d=20),
    "ZeroInflatedPoisson, Ridge": Case("ZeroInflatedPoisson", "Ridge"),
    "ZeroInflatedPoisson, Lasso": Case("ZeroInflatedPoisson", "Lasso"),
    "ZeroInflatedPoisson, Ridge, d=20": Case("ZeroInflatedPoisson", "Ridge", d=20),
    "Gamma (exp), Ridge, d=20": Case("Gamma", "Ridge", "exp", d=20),
    "Binomial, Ridge": Case("Binomial", "Ridge"),
    "Binomial, Lasso, d=20": Case("Binomial", "Lasso", d=20),
    "Gaussian, smooth": Case("Gaussian", "smooth"),
    "Poisson, smooth, d=20, low rate": Case("Poisson", "smooth", d=20, intercept=(-2.0, 0.5)),
    "Poisson, gains": Case("Poisson", "gains"),
    "Gaussian, process, d=20": Case("Gaussian", "process", d=20),
    "Poisson, process": Case("Poisson", "process"),
    "Gaussian, absolute normal": Case("Gaussian", "normal"),
    "Poisson, absolute Laplace": Case("Poisson", "laplace"),
}


class Smooth(nmo.regularizer.Regularizer):
    """A precision of differences of neighbours and a little of each."""

    def terms(self, strength, mask, broadcast, leaf_slices):
        return nmo.prior.Gaussian(self.precision(len(mask)), broadcast(strength))

    @staticmethod
    def precision(size):
        D = np.diff(np.eye(size), axis=0)
        return D.T @ D + 0.3 * np.eye(size)


class GainsOnly(nmo.regularizer.Regularizer):
    """Lasso that would rather have positive coefficients."""

    smooth = False

    def terms(self, strength, mask, broadcast, leaf_slices):
        return Gains(broadcast(strength))


OWN = {
    "smooth": Smooth,
    "gains": GainsOnly,
    "process": lambda: nmo.regularizer.GaussianProcess("matern32", lengthscale=3.0),
    "normal": lambda: nmo.regularizer.Normal(0.2, 0.5),
    "laplace": lambda: nmo.regularizer.Laplace(0.35),
}


def design(case: Case, rng):
    """Return features; twenty of them are serially correlated (0.95), with scales from 1 to 30."""
    if case.d == 2:
        X = rng.normal(size=(30, 2))
        return np.abs(X) if case.positive else X
    X = rng.normal(size=(60, case.d))
    for j in range(1, case.d):
        X[:, j] = 0.95 * X[:, j - 1] + np.sqrt(1 - 0.95**2) * X[:, j]
    return X * np.geomspace(1.0, 30.0, case.d)


def strength(case: Case, X):
    """Return a strength under which the predictor has a prior standard deviation of about 0.7 (at kappa = 1)."""
    n, d = X.shape
    size = np.mean(np.sum(X**2, axis=1)) / 0.5
    if case.kind == "Ridge":
        return size / n
    if case.kind == "smooth":
        covariance = np.linalg.inv(Smooth.precision(d))
        return np.mean(np.einsum("ni,ij,nj->n", X, covariance, X)) / 0.5 / n
    if case.kind in ("normal", "laplace"):  # which take none; they are about as wide
        return None
    if case.kind == "process":
        covariance = OWN["process"]().covariance(d)
        return np.mean(np.einsum("ni,ij,nj->n", X, covariance, X)) / 0.5 / n
    if case.kind == "gains":  # with a mean square of 2 (1 + 1 / 27) / (4 / 3) over the squared rate
        return np.sqrt(14.0 / 9.0 * size) / n
    if case.kind == "GroupLasso":
        return np.sqrt((d + 1) * size / d) / n
    each = np.sqrt(2.0 * size) / n
    return (each, 0.5) if case.kind == "ElasticNet" else each


def simulate(case: Case, n_sets: int, seed: int):
    """Return an estimator, what `sample_posterior` takes, and the true parameters."""
    rng = np.random.default_rng(seed)
    X, how = design(case, rng), {}
    mask = None
    if case.how == "mask":
        mask = np.ones((case.d, n_sets), int)
        mask[0, ::2] = mask[1, 1::4] = 0
    if case.how == "offset":
        how["offset"] = rng.normal(size=(len(X), n_sets))
    estimator = nmo.glm.PopulationGLM(
        case.family,
        case.link,
        OWN.get(case.kind, lambda: case.kind)(),
        strength(case, X),
        feature_mask=mask,
    )
    priors = {"intercept_prior": dist.Normal(*case.intercept)}
    if case.family in SCALED:
        priors["scale_prior"] = SCALE_PRIOR
    repeated = np.repeat(X, 3, axis=0) if case.how == "weights" else X
    truth = prior_draws(case, estimator, repeated, how | priors, n_sets, seed)
    y = truth.pop("y")
    if case.family == "Binomial":
        y = np.stack([y, trials_of(y.shape) - y], axis=-1)
    if case.how == "weights":
        X, y, how["sample_weight"] = aggregated(X, y.reshape(len(X), 3, -1))
    return estimator, X, y, how | priors, truth


def prior_draws(case: Case, estimator, X, how, n_sets: int, seed: int):
    """Draw parameters and responses; those outside the domain of the link are drawn again, as the posterior has it."""
    with jax.enable_x64(True):
        y = np.ones((len(X), n_sets))
        if case.family == "Binomial":
            y = np.stack([trials_of(y.shape), 0.0 * y], axis=-1)
        model = estimator.numpyro_model(X, y, **how)
        many = Predictive(model, num_samples=20 if case.positive else 1)
        truth = {k: np.asarray(v) for k, v in many(jax.random.key(seed), y=None).items()}
    inside = np.ones((1, n_sets), bool)
    if case.positive:
        inside = (np.einsum("nf,sfk->snk", X, truth["coef"]) + truth["intercept"][:, None] > 0).all(
            1
        )
        if not inside.any(axis=0).all():
            raise RuntimeError("Too few draws of the prior lie in the domain of the link.")
    first = inside.argmax(axis=0)
    pick = lambda a: np.moveaxis(a[first, ..., np.arange(n_sets)], 0, -1)  # noqa: E731
    return {
        name: pick(a)
        for name, a in truth.items()
        if name in ("coef", "intercept", "scale", "gate", "y")
    }


def trials_of(shape):
    """Return numbers of trials, from one to five."""
    return 1.0 + np.arange(np.prod(shape)).reshape(shape) % 5


def aggregated(X, y):
    """Turn repeated rows of zeros and ones (rows, times, sets) into weighted ones."""
    ones = y.sum(axis=1)
    both = np.concatenate([np.zeros_like(ones), np.ones_like(ones)])
    return np.concatenate([X, X]), both, np.concatenate([y.shape[1] - ones, ones])


def ranks(case: Case, method: str, n_sets: int, seed: int = 1, file: bool = False):
    """Return ranks (parameters, sets), NaN where k-hat distrusts the draws; the share of others; sets sampled again.

    Features may be read from a file, in pieces.
    """
    estimator, X, y, how, truth = simulate(case, n_sets, seed)
    source = on_disk(X) if file else X
    with warnings.catch_warnings(), mock.patch.object(_design, "_READ_BYTES", X.nbytes // 2):
        warnings.simplefilter("ignore", RuntimeWarning)
        estimator.sample_posterior(
            source, y, method=method, num_samples=NUM_SAMPLES, random_key=jax.random.key(seed + 1),
            progress_bar=False, **how,
        )  # fmt: skip
    data, rng, found = estimator.posterior_["posterior"], np.random.default_rng(seed), []
    for site, value in truth.items():
        drawn = data[site].values[:, ::THIN]
        drawn = drawn.reshape(-1, *drawn.shape[2:])
        below = (drawn < value).sum(axis=0) + rng.uniform(size=value.shape)
        found.append((below / (len(drawn) + 1)).reshape(-1, n_sets))
    found = np.concatenate(found)
    if case.how == "mask":
        found[: case.d][estimator.feature_mask == 0] = np.nan
    trusted = np.ones(n_sets, bool)
    if method == "laplace":
        khat = estimator.posterior_["sample_stats"]["khat"].values
        trusted = khat < good_k(4 * NUM_SAMPLES)
    found[:, ~trusted] = np.nan
    return found, trusted.mean(), len(data.attrs["resampled_neurons"])


def p_values(found):
    """Return the probability of ranks as uneven as these, of each parameter."""
    found = [each[~np.isnan(each)] for each in found]
    counts = [np.histogram(each, BINS, (0.0, 1.0))[0] for each in found]
    return np.array([stats.chisquare(each).pvalue if each.sum() else 1.0 for each in counts])


def main(argv=None) -> bool:
    """Print the table; return whether everything is calibrated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few data sets of two cases")
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--method", nargs="+", default=["nuts", "laplace"])
    parser.add_argument("--file", action="store_true", help="features are read from a file")
    args = parser.parse_args(argv)
    names = [name for name in CASES if args.only in name]
    n_sets = args.sets
    if args.quick:
        names, n_sets = ["Poisson, Lasso", "Gamma (1/x), Ridge"], 50
    rows = []
    print(
        f"{'case':36} {'method':8} {'sets':>5} {'trusted':>8} {'again':>6} {'tests':>6} {'min p':>8} {'CPU s':>6}"
    )
    for name in names:
        for method in args.method:
            begin = time.process_time()
            found, trusted, again = ranks(CASES[name], method, n_sets, file=args.file)
            p = p_values(found)
            rows.append(p)
            used = time.process_time() - begin
            print(
                f"{name:36} {method:8} {n_sets:5} {trusted:8.2f} {again:6} {len(p):6} {p.min():8.2g} {used:6.0f}",
                flush=True,
            )  # fmt: skip
    p = np.concatenate(rows)
    good = bool(p.min() > LEVEL / len(p))
    print(f"{len(p)} tests, smallest p {p.min():.2g}, limit {LEVEL / len(p):.2g}: "
          f"{'calibrated' if good else 'NOT CALIBRATED'}")  # fmt: skip
    return good


if __name__ == "__main__":
    raise SystemExit(not main())
