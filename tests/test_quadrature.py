"""Both ways to sample against exact posteriors, over families and priors, on few rows: there posteriors are skewed."""

import warnings

import numpy as np
import numpyro.distributions as dist
import pytest
import quadrature
import tables
from arviz_stats.base import array_stats
from scipy.special import expit

import bayesglm as nmo
from bayesglm import posterior

N_ROWS, N_NEURONS = 16, 6
# A flat intercept is improper for a Gaussian response whose mean is bounded.
PAIRS = [
    (family, "identity" if family == "Gaussian" else links[-1])
    for family, links in tables.FAMILY_LINKS.items()
]
PAIRS.append(("Gamma", "one_over_x"))
SCALED = ("Gaussian", "Gamma", "NegativeBinomial")
# Under its default prior a negative binomial may be a Poisson one: the log of its scale would need an endless grid.
SCALE_PRIORS = {"NegativeBinomial": dist.LogNormal(-0.5, 0.5)}
# Strengths at which kinks matter about as much as the likelihood of sixteen rows.
STRENGTHS = {"Ridge": 0.1, "Lasso": 0.1, "ElasticNet": (0.2, 0.5), "GroupLasso": 0.1}
CASES = [(how, *pair, kind) for how in ("nuts", "laplace") for pair in PAIRS for kind in STRENGTHS]
# Each family and each prior, smooth and with a kink; all others are among the slow tests.
KINDS = ("Lasso", "ElasticNet", "GroupLasso", "Ridge")
COVERING = [("laplace", *pair, KINDS[i % 4]) for i, pair in enumerate(PAIRS)]
COVERING += [("nuts", *PAIRS[i], KINDS[k]) for i, k in ((0, 0), (5, 1), (4, 3))]

_rng = np.random.default_rng(11)
X = np.abs(_rng.normal(size=(N_ROWS, 2)))
ETA = 0.5 + 0.4 * X[:, :1] + 0.3 * _rng.normal(size=N_NEURONS)
RATE = np.exp(ETA)
RESPONSES = {
    "Poisson": _rng.poisson(RATE).astype(float),
    "Gamma": _rng.gamma(2.0, RATE / 2.0),
    "Gaussian": RATE + 0.5 * _rng.normal(size=ETA.shape),
    "Bernoulli": _rng.binomial(1, expit(ETA - 0.8)).astype(float),
    "NegativeBinomial": _rng.poisson(RATE * _rng.gamma(1.0, 1.0, size=ETA.shape)).astype(float),
}
_n = _rng.integers(1, 5, size=ETA.shape)
_k = _rng.binomial(_n, expit(ETA - 0.8))
RESPONSES["Binomial"] = np.stack([_k, _n - _k], axis=-1).astype(float)
# Both classes occur, whatever was drawn: a flat intercept needs that.
RESPONSES["Bernoulli"][:2] = [[0.0], [1.0]]


def draws_of(model, with_scale):
    """(chains, draws, parameters, neurons)"""
    data = model.posterior_["posterior"]
    parts = [data["coef"].values, data["intercept"].values[:, :, None]]
    if with_scale:
        parts.append(np.log(data["scale"].values)[:, :, None])
    return np.concatenate(parts, axis=2)


def scores(values, expected, most):
    """Deviations of means in Monte Carlo standard errors, (parameters, neurons)."""
    found = np.empty(values.shape[2:])
    for k in np.ndindex(found.shape):
        each = values[(..., *k)]
        effective = min(array_stats.ess(each, chain_axis=0, draw_axis=1, method="mean"), most[k[1]])
        found[k] = (each.mean() - expected[k]) / (each.std() / np.sqrt(effective))
    return found


def check(name, link, kind, method):
    """Means and variances of all parameters and neurons are exact, within Monte Carlo error."""
    # a group of two coefficients takes the axis of the dispersion, which is then fixed
    scaled = name in SCALED and kind != "GroupLasso"
    used, y = X[:, : 1 + (kind == "GroupLasso")], RESPONSES[name]
    model = nmo.glm.PopulationGLM(name, link, kind, STRENGTHS[kind])
    with warnings.catch_warnings():  # of k-hat and divergences, which are looked at below
        warnings.filterwarnings("ignore", message=".*(k-hat|divergent)")
        model.sample_posterior(
            used, y, method=method, num_samples=500, progress_bar=False,
            scale="sample" if scaled else "plugin", scale_prior=SCALE_PRIORS.get(name),
        )  # fmt: skip
    stats = model.posterior_["sample_stats"]
    # neurons whose draws were said not to be trusted do not count
    if method == "laplace":
        good = stats["khat"].values < posterior.good_k(2000)
    else:
        good = ~stats["diverging"].values.any(axis=(0, 1))
    draws = draws_of(model, scaled)
    most = np.broadcast_to(posterior.importance_ess(model.posterior_), N_NEURONS)
    exact = np.stack([
        moments_of(name, link, kind, used, y[:, k], draws[..., k], model, k) for k in range(N_NEURONS)
    ], axis=-1)  # fmt: skip
    z = np.stack([
        scores(draws, exact[0], most), scores(np.square(draws - exact[0]), exact[1], most)
    ])[..., good]  # fmt: skip
    # The largest of about a thousand in all; squares of draws have skewed means.
    assert np.abs(z).max() < 5.0
    # A bias that all neurons share is visible earlier.
    assert np.abs(z.mean(axis=-1)).max() * np.sqrt(good.sum()) < 4.5
    # the law would be empty if everything was condemned
    assert good.mean() >= 0.5


def moments_of(name, link, kind, used, y, draws, model, k):
    alone = nmo.glm.GLM(name, link, kind, STRENGTHS[kind])
    if name in SCALED and kind == "GroupLasso":
        scale = float(np.broadcast_to(model.scale_, N_NEURONS)[k])
        return quadrature.moments(alone, used, y, *where(draws), scale=scale)
    return quadrature.moments(alone, used, y, *where(draws), scale_prior=SCALE_PRIORS.get(name))


def where(draws):
    return draws.mean(axis=(0, 1)), draws.std(axis=(0, 1))


@pytest.mark.parametrize(("method", "name", "link", "kind"), COVERING)
def test_draws_have_the_exact_means_and_variances(method, name, link, kind):
    check(name, link, kind, method)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name", "link", "kind"), sorted(set(CASES) - set(COVERING)))
def test_so_they_have_for_every_family_and_prior(method, name, link, kind):
    check(name, link, kind, method)
