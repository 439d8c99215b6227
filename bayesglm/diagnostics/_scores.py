r"""Score tests: whether a fit would be better with something added to its linear predictor.

With e the Pearson residuals, and a the change of the mean with the predictor per standard deviation of the response, a
direction d of the predictor has the score :math:`\sum_i w_i a_i d_i e_i`. What the fitted coefficients take up of a
direction is taken out of it, so that the score does not feel that they were estimated, or shrunk by a prior.

References
----------
Rao (1948), doi:10.1017/S0305004100023987
Pregibon (1980), Goodness of link tests for generalized linear models. doi:10.2307/2346405
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre

from bayesglm import _families, _residuals
from bayesglm.diagnostics._evidence import Responses
from bayesglm.observation_models import BernoulliObservations

# Of a direction, the least part that must be left when what the coefficients take up is taken out.
_LEAST_LEFT = 1e-6
# Of the information on the coefficients, eigenvalues relative to the largest one that count as zero.
_LEAST_EIGENVALUE = 1e-12
# Features whose products are looked at, and multiplications that all score tests of a report may take.
_PAIRED, _WORK = 10, 2e10
_LEAST_ROWS, _MOST_ROWS, _PICTURED = 2000, 100_000, 20_000
_DEGREES = (2, 3, 4)


class Cells(NamedTuple):
    """One response, or one class against the others; arrays (rows,), zero where the weight is.

    Attributes
    ----------
    error
        Pearson residuals: of mean 0 and variance 1 under the model.
    slope
        Change of the mean with the predictor, per standard deviation of the response.
    excess
        Excess kurtosis of the response, where positive.
    """

    error: np.ndarray
    slope: np.ndarray
    weight: np.ndarray
    excess: np.ndarray
    predictor: np.ndarray
    used: np.ndarray  # (features,)

    def at(self, rows) -> Cells:
        """Return some of the rows."""
        return Cells(*(a[rows] for a in self[:-1]), self.used)


class Found(NamedTuple):
    """Score tests; arrays (tests,).

    Attributes
    ----------
    share
        How much of what could be explained of the response is missed.
    """

    share: np.ndarray
    p_value: np.ndarray


def columns(found: Responses) -> int:
    """Return how many responses each neuron stands for: its classes, or one."""
    return found.mean.shape[2] if found.classes else 1


def cells(found: Responses, k: int, c: int = 0) -> Cells:
    """Return the residuals of one neuron, or of one of its classes."""
    y, mean, weight, scale = found.y[:, k], found.mean[:, k], found.weight[:, k], found.scale[:, k]
    model, used = found.model, found.mask[:, k]
    predictor, slope = found.predictor[:, k], found.slope[:, k]
    if found.classes:
        y, mean, model, scale = (y == c) * 1.0, mean[:, c], BernoulliObservations(), 1.0
        predictor, slope, used = predictor[:, c], mean * (1.0 - mean), used[:, c]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = _families.variance(model, mean, scale)
        excess = _families.excess_kurtosis(model, mean, scale)
        error, slope = (y - mean) / np.sqrt(variance), slope / np.sqrt(variance)
    known = (weight > 0) & np.isfinite(error + slope + excess + predictor)
    zero = lambda a: np.where(known, a, 0.0)  # noqa: E731
    return Cells(*map(zero, (error, slope, weight, np.maximum(excess, 0.0), predictor)), used)


class Fitted(NamedTuple):
    """A response with what its coefficients take up of a direction.

    Attributes
    ----------
    known : array (coefficients, rows)
        Changes of the mean with each coefficient, per standard deviation of the response.
    inverse : array (coefficients, coefficients)
        Of the information on them.
    """

    cells: Cells
    known: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, cells: Cells, Z) -> Fitted:
        """Return a response with its standardised features Z, (features, rows)."""
        known = np.concatenate([Z[cells.used], np.ones((1, Z.shape[1]))]) * cells.slope
        values, vectors = np.linalg.eigh((known * cells.weight) @ known.T)
        kept = values > _LEAST_EIGENVALUE * values[-1]
        vectors = vectors[:, kept]
        return cls(cells, known, (vectors / values[kept]) @ vectors.T)

    def left_of(self, directions) -> np.ndarray:
        """Return what the coefficients do not take up of directions (groups, size, rows)."""
        flat = directions.reshape(-1, directions.shape[-1])
        taken = (flat * self.cells.weight) @ self.known.T @ self.inverse
        return (flat - taken @ self.known).reshape(directions.shape)


def basis(values, weight, degrees=_DEGREES) -> np.ndarray:
    """Return Legendre polynomials of the ranks of values (n,): smooth curves, (degrees, n), whatever the units."""
    vander = legendre.legvander(2.0 * _residuals.ranks(values, weight) - 1.0, max(degrees))
    return vander.T[list(degrees)] * np.sqrt(2.0 * np.array(degrees) + 1.0)[:, None]


def standardised(X, weight) -> tuple[np.ndarray, np.ndarray]:
    """Return columns with mean zero and variance one as rows, zero where constant, and their standard deviations."""
    total = max(weight.sum(), np.finfo(float).tiny)
    X = np.ascontiguousarray(np.asarray(X, float).T)
    size = np.abs(X).max(axis=1, initial=0.0)
    X = X - (X @ weight / total)[:, None]
    sd = np.sqrt(np.square(X) @ weight / total)
    varies = sd > 1e-12 * np.maximum(size, np.finfo(float).tiny)
    return X / np.where(varies, sd, np.inf)[:, None], sd


def test(fitted: Fitted, directions) -> Found:
    """Test groups of directions.

    Parameters
    ----------
    directions : array (groups, size, rows)
        Changes of the mean per standard deviation of the response.

    Returns
    -------
    : Found
        A p-value is that of a chi-square distribution with the variance that squares have under the family, and with
        residuals as large as they are, or as the family says, whichever is larger.
    """
    w, e, excess = fitted.cells.weight, fitted.cells.error, fitted.cells.excess
    least = _LEAST_LEFT * (np.square(directions) @ w).max(axis=1, initial=0.0)
    left = fitted.left_of(directions)
    values, vectors = np.linalg.eigh((left * w) @ np.swapaxes(left, 1, 2))
    kept = values > np.maximum(least, np.finfo(float).tiny)[:, None]
    unit = np.where(kept, 1.0 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    left = np.swapaxes(vectors * unit[:, None], 1, 2) @ left
    squares = np.square(left)
    factor = np.maximum((squares @ (w * np.square(e))).max(axis=1, initial=0.0), 1.0)
    dof = kept.sum(axis=1)
    chi_square = np.square(left @ (w * e)).sum(axis=1)
    variance = 2.0 * dof
    if excess.any():
        variance = variance + np.square(squares.sum(axis=1)) @ (w * excess)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = _residuals.scaled_chi_square(chi_square / factor, dof, variance)
        missed = np.maximum(chi_square - dof * factor, 0.0)
        share = missed / (missed + _explained(fitted.cells))
    # where nothing is left of the directions there is nothing to find
    return Found(np.where(dof > 0, share, np.nan), np.where(dof > 0, p_value, 1.0))


def _explained(cells: Cells) -> float:
    """Return how much the predictor explains: its variation, in units of the information on it."""
    information = cells.weight * np.square(cells.slope)
    total = information.sum()
    if not total > 0:
        return np.nan
    return float(information @ np.square(cells.predictor - information @ cells.predictor / total))


def worst(found: Found) -> tuple[float, float, int]:
    """Return the share and the p-value, corrected for their number, of the strongest test, and which one it is."""
    known = np.isfinite(found.share)
    if not known.any():
        return np.nan, np.nan, 0
    at = int(
        np.lexsort((-np.where(known, found.share, -1.0), np.where(known, found.p_value, 2.0)))[0]
    )
    return float(found.share[at]), min(1.0, float(found.p_value[at]) * int(known.sum())), at


class Design(NamedTuple):
    """What the score tests of neurons with the same weights share.

    Attributes
    ----------
    rows : int array
        In use; of long data some stand for all.
    Z : array (features, rows)
        Standardised features.
    sd : array (features,)
    curves : array (features, degrees, rows)
    """

    rows: np.ndarray
    Z: np.ndarray
    sd: np.ndarray
    curves: np.ndarray

    def fitted(self, cells: Cells) -> Fitted:
        """Return the response in these rows."""
        return Fitted.of(cells.at(self.rows), self.Z)


def designs(found: Responses) -> Iterator[tuple[Design, list[int]]]:
    """Yield designs, and the neurons that each is for."""
    n_features, n_neurons = found.matrix.shape[1], found.y.shape[1] * columns(found)
    tests = 2 * len(_DEGREES) * n_features + 2 * _PAIRED**2
    most = int(_WORK / (n_neurons * (n_features + 10) * tests))
    most = int(np.clip(most, _LEAST_ROWS, _MOST_ROWS))
    alike: dict[bytes, list[int]] = {}
    for k, weight in enumerate(found.weight.T):
        alike.setdefault(weight.tobytes(), []).append(k)
    for neurons in alike.values():
        weight = found.weight[:, neurons[0]]
        rows = np.flatnonzero(weight > 0)
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
        yield _design(found.matrix, rows, weight[rows]), neurons


def _design(matrix, rows, weight) -> Design:
    X = np.asarray(matrix[rows], float)
    curves = np.empty((X.shape[1], len(_DEGREES), len(rows)))
    for k, column in enumerate(X.T):
        curves[k] = basis(column, weight)
    return Design(rows, *standardised(X, weight), curves)


def most_curved(found: Responses, k: int) -> tuple[int, int]:
    """Return the class (0 for a response), and the feature along which its residuals are curved most."""
    rows = np.flatnonzero(found.weight[:, k] > 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _PICTURED)).astype(int)]
    design = _design(found.matrix, rows, found.weight[rows, k])
    each = [
        (*worst(of_features(design.fitted(cells(found, k, c)), design))[1:], c)
        for c in range(columns(found))
    ]
    p_value, feature, c = min(each, key=lambda value: np.nan_to_num(value[0], nan=2.0))
    return c, feature


def of_features(fitted: Fitted, design: Design) -> Found:
    """Test a smooth curve of each feature, beside the straight line that is in the model."""
    cells = fitted.cells
    found = test(fitted, design.curves * cells.slope)
    return Found(np.where(cells.used, found.share, np.nan), found.p_value)


def of_pairs(fitted: Fitted, design: Design, effect) -> tuple[Found, list[tuple[int, int]]]:
    """Test products of pairs of features: of all, or of those whose effects (features,) are largest."""
    some = np.flatnonzero(fitted.cells.used)
    some = np.sort(some[np.argsort(-np.abs(effect[some]), kind="stable")[:_PAIRED]])
    first, second = np.triu_indices(len(some), 1)
    pairs = list(zip(some[first].tolist(), some[second].tolist(), strict=True))
    if not pairs:
        return Found(np.empty(0), np.empty(0)), pairs
    products = design.Z[some[first]] * design.Z[some[second]] * fitted.cells.slope
    return test(fitted, products[:, None]), pairs


def of_link(fitted: Fitted) -> Found:
    """Test the square and the cube of the linear predictor (Pregibon, 1980)."""
    eta, _ = standardised(fitted.cells.predictor[:, None], fitted.cells.weight)
    return test(fitted, np.stack([np.square(eta), eta**3], axis=1) * fitted.cells.slope)


def of_spread(fitted: Fitted, design: Design) -> Found:
    """Test whether squared residuals change with a feature, or with the predictor.

    Returns
    -------
    : Found
        In place of the share, the change of the variance with a standard deviation of the feature, relative to its
        mean.

    References
    ----------
    Breusch, Pagan (1979), doi:10.2307/1911963; Koenker (1981), doi:10.1016/0304-4076(81)90062-2
    """
    cells = fitted.cells
    w, (eta, _) = cells.weight, standardised(cells.predictor[:, None], cells.weight)
    along = np.concatenate([design.Z * cells.used[:, None], eta])
    squares = np.square(cells.error)
    mean = w @ squares / max(w.sum(), np.finfo(float).tiny)
    excess, size = squares - mean, np.square(along)
    total, own = along @ (w * excess), size @ w
    variance = np.maximum(size @ (w * np.square(excess)), size @ (w * (2.0 + cells.excess)))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(total) / (mean * own)
        p_value = _residuals.scaled_chi_square(np.square(total) / variance, 1.0, 2.0)
    return Found(np.where(own > 0, change, np.nan), p_value)
