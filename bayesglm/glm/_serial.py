"""Variances of estimates from rows in the order of time, which depend on each other.

The series are the influences of the rows on one parameter: whatever the units of features and responses, bandwidths
suit that parameter.

References
----------
Newey, West (1987) doi:10.2307/1913610, the Bartlett kernel; Andrews (1991) doi:10.2307/2938229, its bandwidth; Andrews,
Monahan (1992) doi:10.2307/2951574, prewhitening; Newey, West (1994) doi:10.2307/2297912, for an alternative; Kendall
(1954) doi:10.1093/biomet/41.3-4.403, the bias of an autocorrelation; Lazarus, Lewis, Stock, Watson (2018)
doi:10.1080/07350015.2018.1506926, degrees of freedom.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

# Largest autocorrelation of one row that is filtered out (Andrews, Monahan), and what is nothing in its powers.
_MOST, _NOTHING = 0.97, 1e-6


def long_run_variances(influence, used, trials, maxlags: int | None, few: float):
    """Return variances, degrees of freedom and lags of parameters from the influences of rows, each (parameters,).

    Parameters
    ----------
    influence : array (rows, parameters)
        Zero in rows that are not used, which count as time.
    trials : array (rows,) or None
        Indices of trials, which do not fall; rows of different trials are independent.
    few : float
        Factor for a small sample.
    """
    place = _places(len(used), trials)
    found = [_one(series, used, place, maxlags) for series in influence.T]
    variance, dof, lags = map(np.array, zip(*found, strict=True))
    return few * variance, dof, lags


def _places(n: int, trials):
    """Return the first row, and the one after the last, of each trial."""
    inner = [] if trials is None else np.flatnonzero(np.diff(trials)) + 1
    ends = np.concatenate([[0], inner, [n]]).astype(int)
    return ends[:-1], ends[1:]


def _products(values, place, lags: int) -> np.ndarray:
    """Return the sums of products of values that lie 0 to `lags` rows apart in one trial."""
    firsts, ends = place
    lengths = ends - firsts
    starts = firsts + lags * np.arange(len(firsts))  # zeros between trials
    spaced = np.zeros(len(values) + lags * len(firsts))
    spaced[np.arange(len(values)) + np.repeat(starts - firsts, lengths)] = values
    size = fft.next_fast_len(len(spaced), real=True)
    power = np.square(np.abs(fft.rfft(spaced, size)))
    return fft.irfft(power, size)[: lags + 1]


def _bartlett(lags: int) -> np.ndarray:
    return 1.0 - np.arange(lags + 1) / (lags + 1.0)


def _one(series, used, place, maxlags):
    """Return variance, degrees of freedom and lags of one series."""
    longest = int((place[1] - place[0]).max())
    if not np.isfinite(series).all() or not used.any():
        return np.nan, np.nan, -1
    if maxlags is not None:
        lags = min(maxlags, longest - 1)
        found = _both_sides(_bartlett(lags) * _products(series, place, lags))
        return found, 1.5 * used.sum() / (lags + 1.0), lags
    return _prewhitened(series, used, place, longest)


def _both_sides(values) -> float:
    return 2.0 * values.sum() - values[0]


def _prewhitened(series, used, place, longest: int):
    r"""Return variance, degrees of freedom and lags, with the autocorrelation of neighbours filtered out first.

    The autocovariances of what is left, times the Bartlett kernel, are those of innovations; what these imply for the
    series is summed over all pairs of rows of a trial, so that gaps and short trials are as they are. Degrees of
    freedom are twice the inverse of the relative variance of the result: that of the kernel, and by the delta method
    that of :math:`(1 - \rho)^{-2}`.
    """
    follows = used.copy()  # rows with a neighbour before them
    follows[1:] &= used[:-1]
    follows[place[0]] = False
    n = follows.sum()
    if n < 3:
        return np.sum(np.square(series)), float(used.sum()), 0
    rho = _autocorrelation(series, follows)
    rho = np.clip(rho + (1.0 + 3.0 * rho) / n, -_MOST, _MOST)
    left = np.where(follows, series - rho * np.concatenate([[0.0], series[:-1]]), 0.0)
    twice = follows.copy()
    twice[1:] &= follows[:-1]
    twice[place[0]] = False
    again = np.clip(_autocorrelation(left, twice), -_MOST, _MOST)
    alpha = 4.0 * again**2 / (1.0 - again**2) ** 2
    lags = int(np.clip(np.ceil(1.1447 * (alpha * n) ** (1.0 / 3.0)) - 1, 0, longest - 1))
    innovations = _bartlett(lags) * _products(left, place, lags) / n
    reach = min(longest - 1, lags + int(np.log(_NOTHING) / np.log(max(abs(rho), 1e-3))) + 1)
    counts = np.maximum(np.round(_products(used.astype(float), place, reach)), 0.0)
    apart = np.abs(np.arange(reach + 1)[:, None] - np.arange(-lags, lags + 1))
    both = np.concatenate([innovations[:0:-1], innovations])
    implied = (rho**apart) @ both / (1.0 - rho**2)
    noise = 2.0 * (lags + 1.0) / (1.5 * n) + 4.0 * (1.0 + rho) / ((1.0 - rho) * n)
    return max(_both_sides(counts * implied), 0.0), 2.0 / noise, lags


def _autocorrelation(series, follows) -> float:
    """Return the correlation of values in rows that follow a used row of the trial with the values before them."""
    at = np.flatnonzero(follows)
    now, before = series[at], series[at - 1]
    power = 0.5 * (now @ now + before @ before)
    return float(now @ before / power) if power > 0 else 0.0
