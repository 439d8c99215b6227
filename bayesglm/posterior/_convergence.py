"""Convergence statistics of thousands of parameters at once.

They are those of ArviZ, to rounding (the tests hold the two together); ArviZ goes from parameter to parameter, which
takes about half a minute for a hundred neurons with fifty features, against seconds here.

References
----------
Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), Rank-normalization, folding, and localization: an improved R-hat.
doi:10.1214/20-BA1221
Geyer (1992), Practical Markov chain Monte Carlo. doi:10.1214/ss/1177011137
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri
from scipy.stats import rankdata

from bayesglm.rows import cores

# Parameters that are gone through at once; their draws stay in the cache of a core.
_AT_ONCE = 32
_TAILS = (0.05, 0.95)
_LEAST_DRAWS = 4


class Convergence(NamedTuple):
    """Statistics of each parameter, (parameters,); NaN where draws are constant, not finite, or too few.

    Attributes
    ----------
    r_hat
        Rank-normalised split R-hat, the larger of those of the bulk and of the tails; of at least two chains.
    ess_bulk, ess_tail
        Effective sample sizes of the bulk, and of the 5 % and 95 % quantiles, whichever is smaller.
    mcse
        Monte Carlo standard error of the mean.
    """

    r_hat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    mcse: np.ndarray


def convergence(draws) -> Convergence:
    """Return the statistics of all parameters.

    Parameters
    ----------
    draws : array (chains, draws, ...)
    """
    draws = np.asarray(draws, float)
    by_parameter = np.moveaxis(draws.reshape(*draws.shape[:2], -1), -1, 0)
    shape, found = draws.shape[2:], _in_pieces(_statistics, by_parameter)
    if not found:
        return Convergence(*(np.empty(shape) for _ in Convergence._fields))
    return Convergence(*(np.concatenate(part).reshape(shape) for part in zip(*found, strict=True)))


def _statistics(draws) -> Convergence:
    """Return the statistics of draws (parameters, chains, draws)."""
    found = Convergence(*(np.full(len(draws), np.nan) for _ in Convergence._fields))
    known = np.isfinite(draws).all(axis=(1, 2)) & (np.ptp(draws, axis=(1, 2)) > 0)
    if draws.shape[2] < _LEAST_DRAWS or not known.any():
        return found
    draws = np.ascontiguousarray(draws[known])
    halves = _split(draws)
    bulk = _normal_scores(halves)
    if draws.shape[1] > 1:
        centre = np.median(halves, axis=(1, 2), keepdims=True)
        found.r_hat[known] = np.maximum(_rhat(bulk), _rhat(_normal_scores(abs(halves - centre))))
    found.ess_bulk[known] = _ess(bulk)
    ends = np.quantile(draws, _TAILS, axis=(1, 2))
    tails = [_ess(_split((draws <= end[:, None, None]) * 1.0)) for end in ends]
    found.ess_tail[known] = np.minimum(*tails)
    found.mcse[known] = draws.std(axis=(1, 2), ddof=1) / np.sqrt(_ess(halves))
    return found


def relative_efficiency(data) -> np.ndarray:
    """Return effective draws per draw, averaged over the parameters of each neuron, () or (neurons,).

    It is what ArviZ's `loo` takes by default for one neuron. With a single chain it is one, as there.

    Parameters
    ----------
    data : xarray.Dataset
        Draws.
    """
    lead = ("neuron",) if "neuron" in data.dims else ()
    parts = []
    for values in data.data_vars.values():
        array = values.transpose(*lead, ..., "chain", "draw").values
        parts.append(array.reshape(*array.shape[: len(lead)], -1, *array.shape[-2:]))
    draws = np.concatenate(parts, axis=-3)
    *shape, n_chains, n_draws = draws.shape
    if n_chains == 1:
        return np.ones(shape[:-1])
    draws = draws.reshape(-1, n_chains, n_draws)
    found = _in_pieces(lambda piece: _ess(_split(piece)), draws)
    return np.concatenate(found).reshape(shape).mean(axis=-1) / (n_chains * n_draws)


def _in_pieces(statistic, draws) -> list:
    """Apply a function to pieces of draws (parameters, chains, draws), on all cores."""
    pieces = [draws[i : i + _AT_ONCE] for i in range(0, len(draws), _AT_ONCE)]
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(statistic, pieces))


def _split(draws):
    """Cut each chain into its halves, without the middle draw of an odd number."""
    half = draws.shape[2] // 2
    return np.concatenate([draws[:, :, :half], draws[:, :, -half:]], axis=1)


def _normal_scores(values):
    """Replace values by normal quantiles of their ranks among all chains (Blom 1958)."""
    flat = values.reshape(len(values), -1)
    size = flat.shape[1]
    # ties have half ranks: every score there can be, looked up by twice the rank
    scores = ndtri((0.5 * np.arange(2 * size + 1) - 3 / 8) / (size + 1 / 4))
    order = np.argsort(flat, axis=1)
    found = np.empty_like(flat)
    np.put_along_axis(found, order, scores[np.newaxis, 2::2], axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if tied.any():
        found[tied] = scores[(2.0 * rankdata(flat[tied], axis=1)).astype(np.intp)]
    return found.reshape(values.shape)


def _rhat(halves):
    n = halves.shape[2]
    between = halves.mean(axis=2).var(axis=1, ddof=1)
    within = halves.var(axis=2, ddof=1).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(between / within + (n - 1) / n)


def _ess(chains):
    """Return effective sample sizes of (parameters, chains, draws) by Geyer's initial monotone sequence."""
    _, n_chains, n = chains.shape
    total = n_chains * n
    covariance = _autocovariance(chains)
    within = covariance[:, 0] * n / (n - 1.0)
    pooled = within * (n - 1.0) / n
    if n_chains > 1:
        pooled = pooled + chains.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1.0 - (within[:, None] - covariance) / pooled[:, None]
    rho[:, 0] = 1.0
    last = max(0, -(-(n - 2) // 2) - 1)  # the last pair of lags that may be looked at
    pairs = rho[:, : 2 * (last + 1)].reshape(len(rho), -1, 2)
    sums = pairs.sum(axis=2)
    stops = sums <= 0
    stops[:, -1] = True
    stop = stops.argmax(axis=1)  # the sequence is positive before this pair
    rows = np.arange(len(rho))
    monotone = np.minimum.accumulate(sums, axis=1)
    before = np.arange(sums.shape[1]) < stop[:, None]
    even = pairs[rows, stop, 0]
    extra = np.where((even > 0) | (sums[rows, stop] >= 0), even, 0.0)
    tau = -1.0 + 2.0 * np.sum(monotone, axis=1, where=before) + extra
    tau = np.maximum(tau, 1.0 / np.log10(total))
    constant = np.ptp(chains, axis=(1, 2)) < np.finfo(float).resolution
    return np.where(constant, float(total), total / tau)


def _autocovariance(chains):
    """Return autocovariances averaged over the chains, (parameters, lags)."""
    n = chains.shape[2]
    size = next_fast_len(2 * n, real=True)
    spectrum = rfft(chains - chains.mean(axis=2, keepdims=True), n=size, axis=2)
    power = np.mean(spectrum.real**2 + spectrum.imag**2, axis=1)
    return irfft(power, n=size, axis=1)[:, :n] / n
