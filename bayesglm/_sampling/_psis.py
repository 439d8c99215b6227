"""Pareto smoothed importance sampling of many sets of log ratios at once.

References
----------
Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling. arXiv:1507.02646
Zhang, Stephens (2009), A new and efficient estimation method for the generalized Pareto distribution.
doi:10.1198/tech.2009.08017
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

# Weights below this are not worth a term of the average over the profile.
_NEGLIGIBLE = 10 * np.finfo(float).eps


def tail_length(n_draws: int, efficiency: float = 1.0) -> int:
    """Return the number of largest ratios that are smoothed."""
    if n_draws * efficiency > 225:
        # a set of draws that is very inefficient still has draws below its tail
        return min(int(3.0 * np.sqrt(n_draws / efficiency)), n_draws - 1)
    return n_draws // 5


def good_k(n_draws: int) -> float:
    """Return the shape up to which estimates from so many draws can be trusted."""
    return min(1.0 - 1.0 / np.log10(n_draws), 0.7) if n_draws > 1 else 0.0


def smooth(log_ratios, efficiency=1.0):
    """Smooth the largest ratios of each row.

    Parameters
    ----------
    log_ratios : array (sets, draws)
    efficiency : float or array (sets,)
        Effective draws per draw.

    Returns
    -------
    : tuple
        Normalised log weights (sets, draws) and the shapes k of the tails (sets,), infinite where a tail is
        too short to be fitted.
    """
    log_ratios = np.asarray(log_ratios, float)
    n_sets, n_draws = log_ratios.shape
    shifted = log_ratios - log_ratios.max(axis=1, keepdims=True)
    each, which = np.unique(np.broadcast_to(efficiency, n_sets), return_inverse=True)
    lengths = np.array([tail_length(n_draws, e) for e in each])
    k, length, most = np.full(n_sets, np.inf), lengths[which], lengths.max()
    if most > 4:
        order = np.argpartition(shifted, n_draws - most - 1, axis=1)[:, n_draws - most - 1 :]
        values = np.take_along_axis(shifted, order, axis=1)
        inner = np.argsort(values, axis=1, kind="stable")
        order, values = (np.take_along_axis(a, inner, axis=1) for a in (order, values))
        for m in np.unique(lengths[lengths > 4]):
            sets = np.flatnonzero(length == m)
            tail, k[sets] = _smooth_tail(values[sets, -m:], values[sets, -m - 1 : -m])
            shifted[sets[:, None], order[sets, -m:]] = tail
    return shifted - logsumexp(shifted, axis=1)[:, None], k


def _smooth_tail(tail, cutoff):
    """Replace sorted log ratios (sets, m) above a cutoff by expected order statistics, at most the largest."""
    excess = np.exp(tail) - np.exp(cutoff)
    k, sigma = fit_pareto(excess)
    m = tail.shape[1]
    log_survival = np.log1p(-(np.arange(0.5, m) / m))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quantile = np.expm1(-k[:, None] * log_survival) / k[:, None]
        quantile = np.where(k[:, None] == 0, -log_survival, quantile)
        smoothed = np.log(quantile * sigma[:, None] + np.exp(cutoff))
    fitted = np.isfinite(k) & (sigma > 0)
    # equal ratios need no smoothing; a tail that cannot be fitted is not to be trusted
    equal = np.ptp(tail, axis=1) < np.finfo(float).tiny
    k = np.where(equal, -np.inf, np.where(fitted, k, np.inf))
    return np.where((fitted & ~equal)[:, None], np.minimum(smoothed, tail[:, -1:]), tail), k


def fit_pareto(excess):
    """Return shape and scale of the generalised Pareto distribution of sorted excesses (sets, m)."""
    m = excess.shape[1]
    n_profile = 30 + int(m**0.5)
    quartile = excess[:, int(m / 4 + 0.5) - 1]
    grid = 1.0 - np.sqrt(n_profile / (np.arange(1, n_profile + 1) - 0.5))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        b = grid / (3.0 * quartile)[:, None] + 1.0 / excess[:, -1:]
        # the profile likelihood, one point of the grid at a time: (sets, m) in memory
        shape = np.stack([np.log1p(-b[:, [j]] * excess).mean(axis=1) for j in range(n_profile)], 1)
        log_weight = m * (np.log(-b / shape) - shape - 1.0)
        weight = np.exp(log_weight - logsumexp(log_weight, axis=1)[:, None])
        weight = np.where(weight >= _NEGLIGIBLE, weight, 0.0)
        best = np.sum(b * weight, axis=1) / weight.sum(axis=1)
        k = np.log1p(-best[:, None] * excess).mean(axis=1)
        sigma = -k / best
    # a weak prior around one half, worth ten observations
    return (m * k + 10.0 * 0.5) / (m + 10.0), sigma
