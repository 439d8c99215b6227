"""Leave-one-out cross-validation from one set of draws, streamed over the rows.

References
----------
Vehtari, Gelman, Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC.
doi:10.1007/s11222-016-9696-4
Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling. arXiv:1507.02646
Czado, Gneiting, Held (2009), Predictive model assessment for count data. doi:10.1111/j.1541-0420.2009.01191.x
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from bayesglm import _families, observation_models
from bayesglm._likelihood import response_distribution
from bayesglm._sampling import _psis
from bayesglm.posterior import _predict

if TYPE_CHECKING:
    from arviz_stats import ELPDData

# Cells (rows x neurons) above which a random subset of the rows stands for all.
MAX_CELLS = 1_000_000


class Pointwise(NamedTuple):
    """What is known of each cell (rows, *neurons): of leaving out one of the copies that its weight stands for."""

    elpd: np.ndarray
    lppd: np.ndarray
    k: np.ndarray
    pit: np.ndarray | None
    log_lik: np.ndarray  # (draws, *neurons), summed over the copies of all rows
    weight: np.ndarray


def pointwise(
    draws: _predict.Draws, X, y, offset, weight, efficiency, uniform=None, trials=None
) -> Pointwise:
    """Return the leave-one-out log-density of each response.

    Parameters
    ----------
    y : array (rows, *neurons)
    weight : array (rows, *neurons)
        How often each row counts; zero for a row that does not.
    efficiency : scalar or array (neurons,)
        Effective draws per draw.
    uniform : array (rows, *neurons), optional
        Uniform numbers that randomise the probability integral transform of counts; without them it is not computed.
    trials : array (rows, *neurons), optional
        Numbers of trials of the responses.
    """
    elpd, lppd, k = (np.empty(y.shape) for _ in range(3))
    pit = None if uniform is None else np.empty(y.shape)
    total = np.zeros((len(draws.intercept), *y.shape[1:]))
    static = observation_models.static(draws.model)
    for rows, eta in _predict.chunks(draws, X, offset):
        some, count = y[rows], rows.stop - rows.start
        padded = np.concatenate(
            [some, np.broadcast_to(some[-1:], (len(eta) - count, *some.shape[1:]))]
        )
        scale = _predict.scale_of(draws, trials, rows, len(eta))
        log_lik = _log_likelihood(static, draws.inverse_link, eta, padded[:, None], scale)
        log_lik = np.asarray(log_lik)[:count]
        counts = weight[rows][:, None]
        total += np.sum(counts * np.where(counts > 0, log_lik, 0.0), axis=0)
        by_cell = np.moveaxis(log_lik, 1, -1).reshape(-1, log_lik.shape[1])
        each = np.broadcast_to(efficiency, some.shape).ravel()
        weights, shape = _psis.smooth(-by_cell, each)
        elpd[rows] = logsumexp(weights + by_cell, axis=1).reshape(some.shape)
        lppd[rows] = (logsumexp(by_cell, axis=1) - np.log(by_cell.shape[1])).reshape(some.shape)
        k[rows] = shape.reshape(some.shape)
        if uniform is not None:
            seen = eta[:count], _predict.scale_of(draws, trials, rows, count)
            found = _transform(draws, some, *seen, by_cell, np.exp(weights))
            upto, at = (values.reshape(some.shape) for values in found)
            pit[rows] = upto - (1.0 - uniform[rows]) * at
    return Pointwise(elpd, lppd, k, pit, total, weight)


@partial(jax.jit, static_argnames=("model", "inverse_link"))
def _log_likelihood(model, inverse_link, eta, y, scale):
    return response_distribution(model, eta, inverse_link, scale).log_prob(y)


def _transform(draws, y, eta, scale, log_lik, weights):
    """Return the weighted distribution function at each response, and for counts the probability of that very count.

    Parameters
    ----------
    y : array (rows, *neurons)
    eta : array (rows, draws, *neurons)
    log_lik, weights : arrays (cells, draws)
    """
    cells = y.ravel()
    discrete = _families.is_discrete(draws.model)
    at = np.sum(weights * np.exp(log_lik), axis=1) if discrete else np.zeros(len(cells))
    some = (
        (cells > 0) if discrete else np.ones(len(cells), bool)
    )  # at zero the two are the same, and cheap
    upto = at.copy()
    mu = np.asarray(draws.inverse_link(jnp.asarray(eta)))
    if _families.has_trials(draws.model):
        mu = mu / scale
    by_cell = lambda a: np.moveaxis(a, 1, -1).reshape(len(cells), -1)[some]  # noqa: E731
    scale = by_cell(np.broadcast_to(scale, mu.shape))
    below = _families.cdf(draws.model, cells[some, None], by_cell(mu), scale)
    upto[some] = np.sum(weights[some] * below, axis=1)
    return upto, at


def elpd_data(found: Pointwise, n_draws: int, n_all: float) -> ELPDData:
    """Return estimates as ArviZ knows them; a cell of weight w counts as w cells.

    Parameters
    ----------
    n_all : float
        Sum of the weights that those in `found` stand for.
    """
    import xarray as xr  # late, as all of ArviZ: importing them takes longer than most fits
    from arviz_stats.base import array_stats

    used = found.weight > 0
    each, k, weight = found.elpd[used], found.k[used], found.weight[used]
    good_k = _psis.good_k(n_draws)
    n = weight.sum()
    share, subsampled = n_all / n, len(each) > 0 and n_all > n * (1.0 + 1e-9)
    p = np.sum(weight * (found.lppd - found.elpd)[used])
    squares = np.sum(weight * np.square(each - np.average(each, weights=weight)))
    # releases of ArviZ differ in the degrees of freedom of the variance: those of two cells tell
    lost = 2.0 - 1.0 / float(array_stats.loo_summary(np.array([0.0, 1.0]), np.zeros(2))[1]) ** 2
    se = np.sqrt(n * squares / (n - lost)) if n > lost else np.nan
    names = ("sample", "neuron")[: found.elpd.ndim] if used.all() else ("cell",)
    box = lambda a: xr.DataArray(a if used.all() else a[used], dims=names)  # noqa: E731
    more = {}
    if subsampled:
        # rows were drawn, not copies
        moved = np.square(weight * (each - np.average(each, weights=weight))).sum()
        error = n_all / n * np.sqrt((1.0 - n / n_all) * moved * len(each) / (len(each) - 1.0))
        more = {"subsample_size": _count(n), "subsampling_se": float(error)}
        more |= {"loo_subsample_observations": None, "elpd_loo_approx": None}
    return _elpd_class(subsampled)(
        elpd=float(share * np.sum(weight * each)), se=float(np.sqrt(share) * se), p=float(share * p),
        n_samples=n_draws, n_data_points=_count(n_all), scale="log", warning=bool((k > good_k).any()),
        good_k=good_k, elpd_i=box(np.where(used, found.weight * found.elpd, 0.0)), pareto_k=box(found.k), **more,
    )  # fmt: skip


def _count(weight: float) -> int | float:
    """Return a sum of weights as an integer where it is one."""
    nearest = round(float(weight))
    return nearest if abs(weight - nearest) < 1e-9 * max(1.0, weight) else float(weight)


def _elpd_class(subsampled: bool):
    """Return what makes a result: newer releases of ArviZ have a class for each kind, older ones an argument."""
    from arviz_stats import utils

    name = "ELPDDataLOOSubsample" if subsampled else "ELPDDataLOO"
    return getattr(utils, name, partial(utils.ELPDData, kind="loo"))
