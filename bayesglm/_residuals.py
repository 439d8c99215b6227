"""How far responses are from the means of a model: what the checks of a fit are made of.

Arrays are (samples, neurons); rows with weight zero do not count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from bayesglm.observation_models import (
    BernoulliObservations,
    NegativeBinomialObservations,
    PoissonObservations,
)
from bayesglm.posterior import families

# Counts in a bin, on average, and share of bins with several, up to which a response is taken for a spike train.
_RARE, _SEVERAL = 0.5, 0.05
_BINS, _LEAST_PER_BIN = 10, 5.0


class Deviation(NamedTuple):
    """How far something is from what the model says, and how probable that is if the model holds."""

    size: np.ndarray
    p_value: np.ndarray


def uniform_residuals(model, y, mean, scale, uniform) -> np.ndarray:
    """Return the distribution function at the response, randomised for counts: uniform if the model holds.

    Parameters
    ----------
    uniform : array in the shape of `y`
        Uniform random numbers.

    References
    ----------
    Dunn, Smyth (1996), Randomized quantile residuals. doi:10.1080/10618600.1996.10474708
    """
    upper = families.cdf(model, y, mean, scale)
    if not families.is_discrete(model):
        return upper
    lower = families.cdf(model, y - 1.0, mean, scale)
    return lower + uniform * (upper - lower)


def from_uniform(values) -> Deviation:
    """Return the Kolmogorov-Smirnov distance of values (n,) from the uniform distribution."""
    values = values[np.isfinite(values)]
    if len(values) < 5:
        return Deviation(np.nan, np.nan)
    found = stats.kstest(np.clip(values, 0.0, 1.0), "uniform")
    return Deviation(found.statistic, found.pvalue)


def is_spike_train(model, y, weight) -> np.ndarray:
    """Return which neurons have rare, mostly single events in their bins."""
    counts = (PoissonObservations, BernoulliObservations, NegativeBinomialObservations)
    if not isinstance(model, counts):
        return np.zeros(y.shape[1], bool)
    used = np.broadcast_to(weight > 0, y.shape)
    share = lambda what: np.mean(what, axis=0, where=used)  # noqa: E731
    return (share(y) < _RARE) & (share(y > 1) < _SEVERAL) & (share(y) > 0)


def rescaled_intervals(model, y, mean, scale, uniform, used=None) -> np.ndarray:
    """Return the intervals between the spikes of one neuron, in rescaled time: uniform if the model holds.

    Time is rescaled by the hazard in each bin, and the spike's place in its bin is drawn. A bin with several spikes
    counts as one. Intervals across bins that are not used are left out.

    Parameters
    ----------
    y, mean : arrays (samples,)
        Counts in consecutive bins, and what the model expects.
    uniform : array (samples,)
        Uniform random numbers.
    used : bool array (samples,), optional

    Returns
    -------
    : array (intervals,)

    References
    ----------
    Haslinger, Pipa, Brown (2010), Discrete time rescaling theorem. doi:10.1162/NECO_a_00015
    Brown, Barbieri, Ventura, Kass, Frank (2002), The time-rescaling theorem and its application to neural spike train
    data analysis. doi:10.1162/08997660252741149
    """
    used = np.ones(len(y), bool) if used is None else used
    spike = (y > 0) & used
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = -np.log(families.cdf(model, np.zeros_like(mean), mean, scale))
    hazard = np.where(used & np.isfinite(hazard), hazard, 0.0)
    within = -np.log1p(uniform * np.expm1(-hazard))  # the part of the bin of the spike
    passed = np.cumsum(hazard)
    gaps = np.cumsum(~used)
    at = np.flatnonzero(spike)
    if not len(at):
        return np.empty(0)
    before = np.concatenate([[0.0], passed[at[:-1]]])
    interval = passed[at] - hazard[at] - before + within[at]
    whole = gaps[at] == np.concatenate([[0], gaps[at[:-1]]])
    return -np.expm1(-interval[whole])


def dispersion(model, y, mean, scale, weight, dof) -> Deviation:
    """Return Pearson's chi-square per degree of freedom, 1 if counts vary as the family says.

    The p-value is two-sided, from a scaled chi-square distribution of the variance that the squares have under the
    family: rare counts scatter more than normal responses.

    References
    ----------
    McCullagh, Nelder (1989), Generalized Linear Models, section 4.5. doi:10.1007/978-1-4899-3242-6
    """
    variance = families.variance(model, mean, scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.where(weight > 0, np.square(y - mean) / variance, 0.0)
        of_square = 2.0 + families.excess_kurtosis(model, mean, scale)
        ratio = np.sum(weight * squares, axis=0) / dof
        spread = np.sum(np.where(weight > 0, np.square(weight) * of_square, 0.0), axis=0) / dof**2
        upper = _scaled_chi_square(ratio, 1.0, spread)
        return Deviation(ratio, 2.0 * np.minimum(upper, 1.0 - upper))


def _scaled_chi_square(value, mean, variance):
    """Return the probability of more than a value under the scaled chi-square distribution of these moments.

    References
    ----------
    Satterthwaite (1946), An approximate distribution of estimates of variance components. doi:10.2307/3002019
    """
    return stats.gamma.sf(value, mean**2 / variance, scale=variance / mean)


class Bins(NamedTuple):
    """Rows in order of their expected mean, cut into bins; arrays (bins,)."""

    expected: np.ndarray
    observed: np.ndarray
    error: np.ndarray  # standard error of the observed mean, under the model or from the residuals if that is larger
    excess: np.ndarray  # excess kurtosis of the observed mean
    count: np.ndarray  # sum of weights


def calibration_bins(model, y, mean, scale, weight, n_bins: int = _BINS) -> Bins:
    """Return observed and expected means of one response in bins.

    Bins of counts have about the same variance, so that each holds enough events of rare kinds; those of other
    responses have the same number of rows.

    Parameters
    ----------
    y, mean, weight : arrays (samples,)
    scale : float
        Dispersion.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = families.variance(model, mean, scale)
        excess = families.excess_kurtosis(model, mean, scale)
    known = (weight > 0) & np.isfinite(mean) & np.isfinite(y) & np.isfinite(variance)
    order = np.flatnonzero(known)[np.argsort(mean[known], kind="stable")]
    y, mean, variance, excess, weight = (a[order] for a in (y, mean, variance, excess, weight))
    measure = weight * variance if families.is_discrete(model) else weight
    total = measure.sum()
    if not total > 0:
        return Bins(*(np.empty(0) for _ in Bins._fields))
    n_bins = int(np.clip(total // _LEAST_PER_BIN, 1, n_bins))
    where = np.minimum((np.cumsum(measure) - 0.5 * measure) / total * n_bins, n_bins - 1)
    where = where.astype(int)
    add = lambda values: np.bincount(where, values, n_bins)  # noqa: E731
    count = add(weight)
    full = count > 0
    count = count[full]
    total = add(np.square(weight) * variance)[full]
    with np.errstate(divide="ignore", invalid="ignore"):
        fourth = add(excess * np.square(np.square(weight) * variance))[full]
        excess = np.where(total > 0, fourth / np.square(total), 0.0)
    # over-dispersion, which grows with the mean, is not a matter of the means
    total = np.maximum(total, add(np.square(weight * (y - mean)))[full])
    means = (add(weight * a)[full] / count for a in (mean, y))
    return Bins(*means, np.sqrt(total) / count, excess, count)


def miscalibration(bins: Bins) -> Deviation:
    """Return the root mean square error of the means in bins, relative to the spread of the expected means.

    What chance contributes is taken out. The p-value is that of Hosmer and Lemeshow, with the variance that squares
    have for responses that are not normal.

    References
    ----------
    Hosmer, Lemeshow (1980), Goodness of fit tests for the multiple logistic regression model.
    doi:10.1080/03610928008827941
    """
    if len(bins.count) < 4:
        return Deviation(np.nan, np.nan)
    gap, variance = bins.observed - bins.expected, np.square(bins.error)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi_square = np.sum(np.square(gap) / variance)
        excess = np.sum(bins.count * (np.square(gap) - variance))
        middle = np.average(bins.expected, weights=bins.count)
        spread = np.sum(bins.count * np.square(bins.expected - middle))
        size = np.sqrt(max(excess, 0.0) / spread) if spread > 0 else np.nan
    dof = len(bins.count) - 2
    return Deviation(size, _scaled_chi_square(chi_square, dof, dof * np.mean(2.0 + bins.excess)))
