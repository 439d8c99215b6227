"""How far responses are from the means of a model: what the checks of a fit are made of.

Arrays are (samples, neurons) or (samples,). A weight of w counts as w independent rows, and need not be whole: sums
over rows and their variances are linear in it. Rows with weight zero do not count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from scipy import special, stats

from bayesglm import _families

# Counts in a bin, on average, and share of bins with several, up to which a response is taken for a spike train.
_RARE, _SEVERAL = 0.5, 0.05
_BINS, _LEAST_PER_BIN = 10, 5.0
# Values from which a distribution can be judged, and Legendre polynomials that it is compared by.
_LEAST_VALUES, _POLYNOMIALS = 5.0, 4
# Numbers closer than this, relative to their range, are ties: equal rows may differ by rounding.
_TIED = 1e-9
# Below this width, the average of a polynomial over an interval is its value in the middle.
_NARROW = 1e-6


class Deviation(NamedTuple):
    """How far something is from what the model says, and how probable that is if the model holds."""

    size: np.ndarray
    p_value: np.ndarray


class Intervals(NamedTuple):
    """Where values lie that are uniform under the model: for counts an interval, in which they are uniform themselves.

    Averaging over the interval takes the place of a random number in it, so that nothing depends on chance or on the
    order of rows.

    References
    ----------
    Czado, Gneiting, Held (2009), Predictive model assessment for count data. doi:10.1111/j.1541-0420.2009.01191.x
    """

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    def of(self, rows) -> Intervals:
        """Return some of the rows."""
        return Intervals(self.lower[rows], self.upper[rows], self.weight[rows])


def transforms(model, y, mean, scale, weight) -> Intervals:
    """Return the distribution function at each response, from that below it on for counts: uniform under the model.

    References
    ----------
    Dunn, Smyth (1996), Randomized quantile residuals. doi:10.1080/10618600.1996.10474708
    """
    upper = _families.cdf(model, y, mean, scale)
    lower = _families.cdf(model, y - 1.0, mean, scale) if _families.is_discrete(model) else upper
    known = np.isfinite(upper) & np.isfinite(lower)
    return Intervals(lower, upper, np.where(known, weight, 0.0))


def from_uniform(found: Intervals) -> Deviation:
    """Return the Kolmogorov-Smirnov distance of values (n,) from the uniform distribution.

    The p-value is the smaller one, corrected, of Kolmogorov and Smirnov and of the smooth test, which is better at
    tails. It is too large rather than too small: for counts, and where parameters were estimated.

    References
    ----------
    Neyman (1937), "Smooth test" for goodness of fit. doi:10.1080/03461238.1937.10404821
    """
    found = found.of(found.weight > 0)
    n = found.weight.sum()
    if n < _LEAST_VALUES:
        return Deviation(np.nan, np.nan)
    at, value = distribution(found)
    size = np.abs(value - at).max()
    # Stephens (1970), for the distribution at a finite n, which need not be whole here
    p_value = special.kolmogorov(size * (np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n)))
    return Deviation(size, min(1.0, 2.0 * min(p_value, _smooth_test(found))))


def distribution(found: Intervals):
    """Return the distribution function of values (n,), as knots of a line."""
    width = np.maximum(found.upper - found.lower, _TIED)
    ends = np.concatenate([found.lower, found.lower + width])
    change = found.weight / found.weight.sum() / width
    order = np.argsort(ends, kind="stable")
    at, slope = ends[order], np.cumsum(np.concatenate([change, -change])[order])
    value = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(at))])
    return at, value


def _smooth_test(found: Intervals) -> float:
    """Return the p-value of the means of Legendre polynomials, whose variances are taken from the values."""
    low, high = 2.0 * found.lower - 1.0, 2.0 * found.upper - 1.0
    width = high - low
    wide = width > _NARROW
    middle = legendre.legvander(0.5 * (low + high), _POLYNOMIALS + 1)
    degree = np.arange(1, _POLYNOMIALS + 1)
    both = (legendre.legvander(x, _POLYNOMIALS + 1) for x in (low, high))
    first, last = (v[:, degree + 1] - v[:, degree - 1] for v in both)
    mean = (last - first) / (2 * degree + 1) / np.where(wide, width, 1.0)[:, None]
    values = np.where(wide[:, None], mean, middle[:, degree])
    total = found.weight @ values
    eigenvalues, vectors = np.linalg.eigh((values * found.weight[:, None]).T @ values)
    some = eigenvalues > _NARROW * max(eigenvalues[-1], np.finfo(float).tiny)
    chi_square = np.sum(np.square(vectors[:, some].T @ total) / eigenvalues[some])
    return float(stats.chi2.sf(chi_square, max(some.sum(), 1)))


def outlier(found: Intervals) -> Deviation:
    """Return the normal score of the response that is farthest out among values (n,), and how rare such a one is."""
    found = found.of(found.weight > 0)
    if not len(found.weight):
        return Deviation(np.nan, np.nan)
    tail = max(np.minimum(found.upper, 1.0 - found.lower).min(), np.finfo(float).eps / 2)
    return Deviation(-special.ndtri(min(tail, 0.5)), min(1.0, 2.0 * tail * found.weight.sum()))


def is_spike_train(model, y, weight) -> np.ndarray:
    """Return which neurons have rare, mostly single events in their bins."""
    if not _families.is_discrete(model):
        return np.zeros(y.shape[1], bool)
    used = np.broadcast_to(weight > 0, y.shape)
    share = lambda what: np.mean(what, axis=0, where=used)  # noqa: E731
    return (share(y) < _RARE) & (share(y > 1) < _SEVERAL) & (share(y) > 0)


def rescaled_intervals(model, y, mean, scale, used, stretch) -> Intervals:
    """Return the intervals between the spikes of one neuron, in rescaled time: uniform if the model holds.

    Time is rescaled by the hazard in each bin; where in its bin a spike comes is not known, which makes an interval of
    each. A bin with several spikes counts as one. The end of a stretch cuts intervals off, and those that are seen are
    compared with what could have been seen: their distribution up to the end.

    Parameters
    ----------
    y, mean : arrays (samples,)
        Counts in bins in order of time, and what the model expects.
    used : bool array (samples,)
        Others are gaps, which end a stretch.
    stretch : int array (samples,)
        Number of the stretch of consecutive bins.

    References
    ----------
    Haslinger, Pipa, Brown (2010), Discrete time rescaling theorem. doi:10.1162/NECO_a_00015
    Wiener (2003), An adjustment to the time-rescaling method for application to short-trial spike train data. Neural
    Computation 15, 2565-2576.
    Brown, Barbieri, Ventura, Kass, Frank (2002), The time-rescaling theorem and its application to neural spike train
    data analysis. doi:10.1162/08997660252741149
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = -np.log(_families.cdf(model, np.zeros_like(mean), mean, scale))
    used = used & np.isfinite(hazard)
    part = (
        np.cumsum(np.concatenate([[0], (np.diff(stretch) != 0) | ~used[1:]])) if len(y) else stretch
    )
    hazard = np.where(used, hazard, 0.0)
    passed = np.cumsum(hazard)
    first = np.searchsorted(part, part)
    start = passed[first] - hazard[first]
    end = passed[np.searchsorted(part, part, side="right") - 1]
    at = np.flatnonzero((y > 0) & used)
    if not len(at):
        return Intervals(*(np.empty(0) for _ in range(3)))
    before = np.concatenate([[start[at[0]]], passed[at[:-1]]])
    since = np.maximum(before, start[at])  # the last spike, or the start of the stretch
    known = -np.expm1(since - end[at])
    lower = np.expm1(since - passed[at] + hazard[at]) / -known
    upper = np.expm1(since - passed[at]) / -known
    return Intervals(np.clip(lower, 0.0, 1.0), np.clip(upper, 0.0, 1.0), np.ones(len(at)))


def dispersion(model, y, mean, scale, weight, dof) -> Deviation:
    """Return Pearson's chi-square per degree of freedom, 1 if counts vary as the family says.

    The p-value is two-sided, from a scaled chi-square distribution of the variance that the squares have under the
    family: rare counts scatter more than normal responses.

    References
    ----------
    McCullagh, Nelder (1989), Generalized Linear Models, section 4.5. doi:10.1007/978-1-4899-3242-6
    """
    variance = _families.variance(model, mean, scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.where(weight > 0, np.square(y - mean) / variance, 0.0)
        of_square = 2.0 + _families.excess_kurtosis(model, mean, scale)
        ratio = np.sum(weight * squares, axis=0) / dof
        of_ratio = np.sum(np.where(weight > 0, weight * of_square, 0.0), axis=0) / dof**2
        upper = scaled_chi_square(ratio, 1.0, of_ratio)
        return Deviation(ratio, 2.0 * np.minimum(upper, 1.0 - upper))


def scaled_chi_square(value, mean, variance):
    """Return the probability of more than a value under the scaled chi-square distribution of these moments.

    References
    ----------
    Satterthwaite (1946), An approximate distribution of estimates of variance components. doi:10.2307/3002019
    """
    return stats.gamma.sf(value, mean**2 / variance, scale=variance / mean)


def ranks(values, weight) -> np.ndarray:
    """Return the share of the weight below each value (n,), half of that of its ties included: between 0 and 1."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    apart = _TIED * (ordered[-1] - ordered[0]) if len(ordered) else 0.0
    group = np.concatenate([[0], np.cumsum(np.diff(ordered) > apart)])[: len(ordered)]
    each = np.bincount(group, weight[order])
    found = np.empty(len(values))
    found[order] = ((np.cumsum(each) - 0.5 * each) / max(each.sum(), np.finfo(float).tiny))[group]
    return found


class Bins(NamedTuple):
    """Rows in order of their expected mean, cut into bins; arrays (bins,)."""

    expected: np.ndarray
    observed: np.ndarray
    error: np.ndarray  # standard error of the observed mean, under the model or from the residuals if that is larger
    excess: np.ndarray  # excess kurtosis of the observed mean
    count: np.ndarray  # sum of weights


def calibration_bins(model, y, mean, scale, weight, n_bins: int = _BINS, along=None) -> Bins:
    """Return observed and expected means of one response in bins.

    Bins of counts have about the same variance, so that each holds enough events of rare kinds; those of other
    responses have the same number of rows. Rows with the same mean are in one bin.

    Parameters
    ----------
    y, mean, weight : arrays (samples,)
    scale : float
        Dispersion.
    along : array (samples,), optional
        What is cut into bins in place of the expected mean, such as a feature.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = _families.variance(model, mean, scale)
        excess = _families.excess_kurtosis(model, mean, scale)
    known = (weight > 0) & np.isfinite(mean) & np.isfinite(y) & np.isfinite(variance)
    along = mean if along is None else along
    y, mean, variance, excess, weight, along = (
        a[known] for a in (y, mean, variance, excess, weight, along)
    )
    measure = weight * variance if _families.is_discrete(model) else weight
    total = measure.sum()
    if not total > 0:
        return Bins(*(np.empty(0) for _ in Bins._fields))
    n_bins = int(np.clip(total // _LEAST_PER_BIN, 1, n_bins))
    where = np.minimum(ranks(along, measure) * n_bins, n_bins - 1).astype(int)
    add = lambda values: np.bincount(where, values, n_bins)  # noqa: E731
    count = add(weight)
    full = count > 0
    count = count[full]
    total = add(weight * variance)[full]
    with np.errstate(divide="ignore", invalid="ignore"):
        fourth = add(excess * weight * np.square(variance))[full]
        excess = np.where(total > 0, fourth / np.square(total), 0.0)
    # over-dispersion, which grows with the mean, is not a matter of the means
    total = np.maximum(total, add(weight * np.square(y - mean))[full])
    means = (add(weight * a)[full] / count for a in (mean, y))
    return Bins(*means, np.sqrt(total) / count, excess, count)


class Curve(NamedTuple):
    """Mean residuals in bins along something; arrays (bins,)."""

    at: np.ndarray
    mean: np.ndarray
    error: np.ndarray


def curve(error, along, weight, n_bins: int = _BINS) -> Curve:
    """Return means of Pearson residuals (n,) in bins along a feature or time (n,), with their standard errors."""
    some = weight > 0
    error, along, weight = error[some], along[some], weight[some]
    where = np.minimum(ranks(along, weight) * n_bins, n_bins - 1).astype(int)
    add = lambda values: np.bincount(where, weight * values, n_bins)  # noqa: E731
    total = add(np.ones(len(error)))
    full = total > 0
    total, squares = total[full], add(np.square(error))[full]
    of_mean = np.sqrt(np.maximum(total, squares)) / total
    return Curve(add(along)[full] / total, add(error)[full] / total, of_mean)


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
        explained = np.sum(bins.count * np.square(bins.expected - middle))
        size = np.sqrt(max(excess, 0.0) / explained) if explained > 0 else np.nan
    dof = len(bins.count) - 2
    return Deviation(size, scaled_chi_square(chi_square, dof, dof * np.mean(2.0 + bins.excess)))
