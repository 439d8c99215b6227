"""Whether the residuals of rows depend on each other: in time, within trials, and between rows that are alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from bayesglm import _design, _residuals
from bayesglm.diagnostics import _scores
from bayesglm.diagnostics._evidence import Responses
from bayesglm.diagnostics._order import Order
from bayesglm.diagnostics._scores import Cells, Fitted

# Lags looked at, one in so many rows of a stretch, and groups of them for slow dependence that is weak at each.
_LAGS, _ROWS_PER_LAG = 64, 10
_BLOCKS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64))
_FREQUENCIES = 64
# Degrees of the polynomials that stand for slow changes in time.
_TREND = (1, 2, 3, 4)
# Residuals of all neurons of which the order is looked at.
_MOST_CELLS = 2_000_000


#: What residuals do that alternate, or keep a distance.
EVEN = "more even than chance"


class Series(NamedTuple):
    """Rows in order of time; of very long data some stretches."""

    order: Order
    Z: np.ndarray  # standardised features (features, rows)
    names: list[str]  # of times: over the session, within trials
    curves: np.ndarray  # of these (times, degrees, rows)

    @classmethod
    def of(cls, found: Responses) -> Series:
        """Return the series of rows that are said to be one."""
        order, some = found.order, _some(len(found.y), _MOST_CELLS // found.y.shape[1])
        cut = (np.diff(order.stretch[some]) != 0) | (np.diff(some) > 1)
        order = order._replace(
            rows=order.rows[some],
            stretch=np.concatenate([[0], np.cumsum(cut)]),
            trial=None if order.trial is None else order.trial[some],
        )
        X, used = np.asarray(found.matrix[order.rows], float), (found.weight > 0).any(axis=1)
        one = used[order.rows] * 1.0
        time = {"over the session": np.arange(len(some), dtype=float)}
        if order.trial is not None and len(np.unique(order.trial)) > 1:
            new = np.flatnonzero(np.diff(order.trial, prepend=-1))
            lengths = np.diff(np.append(new, len(some)))
            time["within trials"] = np.arange(len(some)) - np.repeat(new, lengths) * 1.0
        curves = {name: _scores.basis(at, one, _TREND) for name, at in time.items()}
        return cls(
            order, _scores.standardised(X, one)[0], list(curves), np.stack([*curves.values()])
        )

    def tests(self, cells: Cells):
        """Yield the name of a check, and size, p-value and place of what was found."""
        cells = cells.at(self.order.rows)
        fitted = Fitted.of(cells, self.Z)
        yield "serial_dependence", serial(fitted, self.order)
        share, p_value, at = _scores.worst(_scores.test(fitted, self.curves * cells.slope))
        yield "drift", (share, p_value, self.names[at])
        if self.order.trial is not None:
            yield "trial_dependence", within_groups(cells, self.order.trial)


def _some(n_rows: int, most: int) -> np.ndarray:
    return np.concatenate([np.arange(s.start, s.stop) for s in _design.stretches(n_rows, most)])


def serial(fitted: Fitted, order: Order) -> tuple[float, float, str]:
    """Return how the residuals of rows that follow each other depend: size, p-value, and what they do.

    The size is the largest variance of the coefficient of a feature that oscillates with any period, relative to that
    of independent rows. Where rows are only more even than chance, it is the inverse of the smallest. The p-value is
    the smaller one, corrected, of a portmanteau test of all lags and of a score test of groups of lags, which is
    adjusted for the estimated coefficients.

    Parameters
    ----------
    fitted
        Rows in the order of `order`.

    References
    ----------
    Ljung, Box (1978), doi:10.1093/biomet/65.2.297; Breusch (1978), doi:10.1111/j.1467-8454.1978.tb00635.x;
    Parzen (1961), doi:10.1080/00401706.1961.10489939 for the window.
    """
    cells = fitted.cells
    used = (cells.weight > 0) * 1.0  # a row of a time series is one row
    products, error = correlations(cells, order)
    n_lags = len(products)
    if not n_lags:
        return np.nan, np.nan, ""
    portmanteau = stats.chi2.sf(np.sum(np.square(products / error)), n_lags)
    lagged = _lagged(cells.error * used, order, n_lags)
    found = _scores.test(fitted._replace(cells=cells._replace(weight=used)), lagged[None])
    p_value = min(1.0, 2.0 * min(portmanteau, float(found.p_value[0])))
    size, words = _spectrum(products)
    return size, p_value, words


def correlations(cells: Cells, order: Order) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlations of residuals at lags from one on, and their standard errors for independent rows."""
    used = cells.weight > 0
    error = np.where(used, cells.error, 0.0)
    longest = int(np.bincount(order.stretch).max())
    n_lags = min(_LAGS, longest // _ROWS_PER_LAG, int(used.sum()) // _ROWS_PER_LAG)
    mean_square = np.square(error).sum() / max(used.sum(), 1)
    found, errors = np.zeros(n_lags), np.ones(n_lags)
    if not mean_square > 0:
        return found[:0], errors[:0]
    for lag in range(1, n_lags + 1):
        same = (order.stretch[lag:] == order.stretch[:-lag]) & used[lag:] & used[:-lag]
        product = np.where(same, error[lag:] * error[:-lag], 0.0)
        # as large as the products are, or as the family says: rare events seldom coincide
        total = max(np.square(product).sum(), same.sum(), 1.0)
        found[lag - 1] = product.sum() / max(same.sum(), 1) / mean_square
        errors[lag - 1] = np.sqrt(total) / max(same.sum(), 1) / mean_square
    return found, errors


def _lagged(error, order: Order, n_lags: int) -> np.ndarray:
    """Return sums of earlier residuals of the same stretch, (groups of lags, rows)."""
    total = np.cumsum(np.concatenate([[0.0], error]))
    row, new = np.arange(len(error)), np.flatnonzero(np.diff(order.stretch, prepend=-1))
    begin = np.repeat(new, np.diff(np.append(new, len(error))))
    found = []
    for first, last in _BLOCKS:
        if first > n_lags:
            break
        low, high = (np.maximum(row - lag, begin) for lag in (last, first - 1))
        found.append((total[high] - total[low]) / np.sqrt(last - first + 1.0))
    return np.stack(found)


def _spectrum(correlation) -> tuple[float, str]:
    """Return the largest variance at any period and what that means, from the correlations at lags from one on."""
    n_lags = len(correlation)
    x = np.arange(1, n_lags + 1) / (n_lags + 1.0)
    window = np.where(x <= 0.5, 1.0 - 6.0 * np.square(x) * (1.0 - x), 2.0 * (1.0 - x) ** 3)
    frequency = np.linspace(0.0, 0.5, _FREQUENCIES + 1)
    waves = np.cos(2.0 * np.pi * np.outer(frequency, np.arange(1, n_lags + 1)))
    density = 1.0 + 2.0 * waves @ (window * correlation)
    at, low, high = density.argmax(), max(density.min(), 1e-3), density.max()
    if 1.0 / low > high and high < 1.2:
        return 1.0 / low, EVEN
    if frequency[at] * n_lags < 1.0:
        return high, f"errors of means too small by a factor of {np.sqrt(max(density[0], 0.0)):.2g}"
    return high, f"a rhythm of about {1.0 / frequency[at]:.2g} rows"


def within_groups(cells: Cells, group) -> tuple[float, float, str]:
    """Return how the residuals of rows of one group depend: size, p-value, and what follows.

    The size is the mean correlation of two residuals of a group. The p-value is that of one above zero, from the
    variance that sums over groups have for independent rows.

    Parameters
    ----------
    group : int array (rows,)

    References
    ----------
    Fisher (1925), Statistical Methods for Research Workers, chapter 7 (intraclass correlation).
    """
    w, e = cells.weight, cells.error
    one = np.bincount(group, w)
    sums, squares = np.bincount(group, w * e), np.bincount(group, w * np.square(e))
    several = one > 1.0
    one, sums, squares = one[several], sums[several], squares[several]
    possible = np.sum((one - 1.0) * squares)
    if not possible > 0:
        return np.nan, np.nan, ""
    joint = np.sum(np.square(sums) - squares)
    fourth = np.bincount(group, w * np.square(np.square(e)))[several]
    # pairs of independent residuals: as large as they are, or as the family says
    variance = 2.0 * max(np.sum(np.square(squares) - fourth), np.sum(one * (one - 1.0)), 0.0)
    total = squares.sum()
    p_value = _residuals.scaled_chi_square(total + joint, total, max(variance, 1e-12 * total**2))
    inflation = 1.0 + joint / np.sum(w * np.square(e))
    words = f"errors of means too small by a factor of {np.sqrt(max(inflation, 1.0)):.2g}"
    return joint / possible, float(p_value), words


def alike(X, weight) -> np.ndarray | None:
    """Return numbers of groups of rows with the same features; None where no two rows in use are the same.

    Parameters
    ----------
    X : array (rows, features)
    weight : array (rows, neurons)
        Where weights are not whole, and so are no copies, the answer is None.
    """
    import pandas as pd  # late: it takes longer to import than most fits

    if (weight % 1.0 != 0).any():
        return None
    key = np.zeros(len(X), np.uint64)
    for rows in _design.pieces(X):
        for column in X[rows].T:
            each = np.ascontiguousarray(column, float) + 0.0  # zero has one sign
            key[rows] = key[rows] * np.uint64(0x9E3779B97F4A7C15) + pd.util.hash_array(each)
    _, group = np.unique(key, return_inverse=True)
    group = group.reshape(-1)
    return group if np.bincount(group, weight.max(axis=1)).max() > 1.0 else None
