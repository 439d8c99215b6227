"""Predictions averaged over posterior draws, in row chunks.

A prediction is a mixture over draws. Its mean, variance and distribution function are averages of those of the family,
in closed form: nothing is simulated for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import _families
from bayesglm._likelihood import response_distribution
from bayesglm.rows import fill, predictor

# Bytes of the predictors of one chunk of rows under all draws.
_CHUNK_BYTES = 1 << 25
_BISECTIONS = 60
# Features that are missing, infinite or huge say so by what is predicted from them.
_quiet = np.errstate(invalid="ignore", over="ignore")


class Draws(NamedTuple):
    """Draws, and the family they belong to; (draws, ...) with chains run together."""

    coef: np.ndarray  # (draws, features, *outputs)
    intercept: np.ndarray  # (draws, *outputs)
    scale: np.ndarray  # (draws, *neurons), constant where it is fixed
    model: Any
    inverse_link: Callable
    classes: bool

    @classmethod
    def of(cls, tree, scale, model, inverse_link, classes: bool, thin=None) -> Draws:
        """Return the draws of a tree; `thin` selects draws of each chain."""
        data = tree["posterior"].dataset
        data = data if thin is None else data.isel(draw=thin)
        flat = lambda a: np.asarray(a).reshape(-1, *a.shape[2:])  # noqa: E731
        coef, intercept = flat(data["coef"].values), flat(data["intercept"].values)
        parameter = _families.parameter(model)
        if parameter.name in data:
            drawn = np.asarray(parameter.to_scale(flat(data[parameter.name].values)))
        else:
            shape = intercept.shape[: intercept.ndim - classes]
            drawn = np.broadcast_to(np.asarray(scale, float).reshape(
                -1 if len(shape) > 1 else ()) if np.size(scale) else 1.0, shape)  # fmt: skip
        return cls(coef, intercept, drawn, model, inverse_link, classes)

    @property
    def outputs(self):
        """Shape of one row of the predictor."""
        return self.intercept.shape[1:]


def chunks(draws: Draws, X, offset) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows and their predictors (rows, draws, *outputs)."""
    n_rows, coef = len(X), np.ascontiguousarray(np.moveaxis(draws.coef, 0, 1))
    each = 8 * max(draws.intercept.size, X.shape[1])
    size = int(np.clip(_CHUNK_BYTES // each, 1, max(n_rows, 1)))
    for first in range(0, n_rows, size):
        rows = slice(first, min(first + size, n_rows))
        part = fill(X[rows], size)  # one shape for all chunks: the link compiles once
        shift = None if offset is None else fill(offset[rows], size)
        yield rows, predictor(part, coef, draws.intercept, shift)


def means(draws: Draws, X, offset, trials=None) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield rows, and the means of the response (rows, draws, *outputs) and dispersions under each draw.

    Parameters
    ----------
    trials : array (rows, *neurons), optional
        Numbers of trials of each response, where it is a number of successes; by default one.
    """
    for rows, eta in chunks(draws, X, offset):
        mean = np.asarray(draws.inverse_link(jnp.asarray(eta)))[: rows.stop - rows.start]
        if trials is None:
            yield rows, mean, draws.scale
        else:
            count = trials[rows][:, None]
            yield rows, count * mean, 1.0 / count


@_quiet
def mean_and_sd(draws: Draws, X, offset):
    """Return mean and standard deviation of a new response, each (rows, *outputs)."""
    mean = np.empty((len(X), *draws.outputs))
    sd = np.empty_like(mean)
    for rows, mu, scale in means(draws, X, offset):
        noise = _families.variance(draws.model, mu, scale)
        mean[rows] = mu.mean(axis=1)
        sd[rows] = np.sqrt(noise.mean(axis=1) + mu.var(axis=1))
    return mean, sd


@_quiet
def mean_probability(draws: Draws, X, offset) -> np.ndarray:
    """Return class probabilities averaged over draws, (rows, *outputs)."""
    found = np.empty((len(X), *draws.outputs))
    for rows, log_p, _ in means(draws, X, offset):
        found[rows] = np.exp(log_p).mean(axis=1)
    return found


@_quiet
def interval(draws: Draws, X, offset, prob: float, kind: str, trials=None):
    """Return the equal-tailed interval of the mean or of a new response, each end (rows, *outputs)."""
    ends = 0.5 * (1.0 - prob), 0.5 * (1.0 + prob)
    low, high = (np.empty((len(X), *draws.outputs)) for _ in range(2))
    for rows, mu, scale in means(draws, X, offset, trials):
        if kind == "mean":
            low[rows], high[rows] = np.quantile(mu, ends, axis=1)
        else:
            low[rows], high[rows] = (_quantile(draws.model, mu, scale, p) for p in ends)
    return low, high


def _quantile(model, mu, scale, p: float):
    """Return the quantile of the mixture over draws, by bisection of its distribution function."""
    known = np.isfinite(mu).all(axis=1)
    mu = np.where(np.isfinite(mu), mu, 1.0)
    sd = np.sqrt(_families.variance(model, mu, scale)).max(axis=1)
    middle = mu.mean(axis=1)
    if _families.is_real(model):
        low, high = mu.min(axis=1) - 10.0 * sd, mu.max(axis=1) + 10.0 * sd
    else:
        low, high = np.full(middle.shape, -1.0), mu.max(axis=1) + 20.0 * sd + 5.0

    def below(y):
        return _families.cdf(model, y[:, None], mu, scale).mean(axis=1) < p

    for _ in range(_BISECTIONS):  # heavy tails
        far = below(high)
        if not far.any():
            break
        high = np.where(far, 2.0 * high + 1.0, high)
    if _families.is_discrete(model):
        low, high = np.full(middle.shape, -1.0), np.ceil(high)
        while (high - low).max() > 1:
            half = np.floor(0.5 * (low + high))
            up = below(half)
            low, high = np.where(up, half, low), np.where(up, high, half)
        return np.where(known, high, np.nan)
    for _ in range(_BISECTIONS):
        half = 0.5 * (low + high)
        up = below(half)
        low, high = np.where(up, half, low), np.where(up, high, half)
    return np.where(known, 0.5 * (low + high), np.nan)


def replicate(draws: Draws, X, offset, seed: int = 0, trials=None) -> np.ndarray:
    """Return one response for each draw and row as :func:`draw_responses` does, without compiling where possible."""
    if not _families.is_known(draws.model):
        return draw_responses(draws, jax.random.key(seed), X, offset, trials)
    rng = np.random.default_rng(seed)
    found = np.empty((len(draws.intercept), len(X), *draws.outputs))
    for rows, mean, scale in means(draws, X, offset, trials):
        drawn = _families.draw(draws.model, rng, mean, np.broadcast_to(scale, mean.shape))
        found[:, rows] = np.moveaxis(drawn, 0, 1)
    return found


def scale_of(draws: Draws, trials, rows: slice, size: int):
    """Return dispersions that broadcast to the predictors (size, draws, *neurons) of some rows, the last one repeated.

    Parameters
    ----------
    trials : array (rows, *neurons), or None
        Numbers of trials of all responses.
    """
    if draws.classes or trials is None:
        return 1.0 if draws.classes else draws.scale
    return 1.0 / fill(trials[rows], size)[:, None]


@_quiet
def draw_responses(draws: Draws, key, X, offset, trials=None) -> np.ndarray:
    """Return one response for each draw and row, (draws, rows, *neurons)."""
    found = None
    for i, (rows, eta) in enumerate(chunks(draws, X, offset)):
        distribution = response_distribution(
            draws.model, jnp.asarray(eta), draws.inverse_link,
            jnp.asarray(scale_of(draws, trials, rows, len(eta))),
        )  # fmt: skip
        drawn = np.asarray(distribution.sample(jax.random.fold_in(key, i)))
        drawn = np.moveaxis(drawn[: rows.stop - rows.start], 0, 1)
        if found is None:
            found = np.empty((drawn.shape[0], len(X), *drawn.shape[2:]), drawn.dtype)
        found[:, rows] = drawn
    return found
