"""What solvers see: loss and derivatives of many independent problems on one design matrix.

Everything that touches the rows is a program of :mod:`bayesglm.rows`, whose words are used here. All that has the size
of the coefficients is NumPy, float64, and compiles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bayesglm import rows
from bayesglm.prior import LanePrior
from bayesglm.rows import Shards, Spec

# A mean square below which a response is zero, far enough from the smallest number to be divided by.
_NOTHING = 1e-250


class Point(NamedTuple):
    """Loss and gradient at some parameters, per lane; means over rows, without penalty."""

    theta: np.ndarray  # (lanes, columns, features + 1)
    gradient: np.ndarray  # as theta
    loss: np.ndarray  # (lanes,)
    residual: (
        np.ndarray
    )  # (lanes,) mean squared Pearson residual of families with a free dispersion
    reach: np.ndarray  # (lanes,) range of the linear predictor
    # (lanes,) square root of n times kappa: standard errors per unit of the loss's metric
    unit: np.ndarray


class Gram(NamedTuple):
    """Second moments of the features, weighted by the curvature of the loss; per lane and column."""

    mean: np.ndarray  # (lanes, columns, features)
    total: np.ndarray  # (lanes, columns) mean curvature
    # (lanes, columns, features, features), or (lanes, columns, features) for its diagonal only
    centred: np.ndarray


@dataclass(frozen=True)
class Objective:
    """Mean loss plus penalty of every lane.

    Parameters
    ----------
    spec
        Family.
    shards
        Rows.
    n, response_power : (lanes,)
        Sum of the weights, and mean square of the response.
    prior
        Its penalty, in units of the loss.
    mask : bool array (lanes or 1, columns or 1, features)
        Coefficients in use.
    wide : bool
        Whether blocks of rows are computed with in float64, whatever they are stored in.
    known : Point, optional
        Where it has been evaluated already.
    """

    spec: Spec
    shards: Shards
    n: np.ndarray
    response_power: np.ndarray
    prior: LanePrior
    mask: np.ndarray
    wide: bool = False
    known: Point | None = None

    @property
    def n_lanes(self) -> int:
        """Number of lanes."""
        return len(self.n)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.shards.n_rows

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.shards.n_features

    @property
    def dtype(self) -> np.dtype:
        """Precision that the rows are computed with in."""
        return np.dtype(float) if self.wide else self.shards.dtype

    @property
    def precision(self) -> float:
        """Rounding unit of the rows."""
        return float(np.finfo(self.dtype).eps)

    def evaluate(self, theta) -> Point:
        """Return loss and gradient at `theta`: one pass over the rows."""
        if self.known is not None and np.array_equal(theta, self.known.theta):
            return self.known
        found = rows.slopes_at(self.spec, self.shards, theta, self.dtype)
        gradient, loss, residual, ends, family = found
        low, high = ends.T
        n, residual = self.n, residual / self.n
        return Point(
            np.asarray(theta), gradient / n[:, None, None], loss / n, residual, low + high,
            self._unit(residual, *family),
        )  # fmt: skip

    def _unit(self, residual, at_one, power, relative):
        """Return the square root of n times kappa at the dispersion that the residuals say.

        A fit without residuals would make every distance infinite; below a millionth of the response it is exact,
        or what rounding hides. Relative residuals above 1 are those of a bad fit rather than noise: a dispersion as
        large would make any start an optimum.
        """
        exact = max(1e-6, 1e3 * self.precision) ** 2
        if relative:
            scale = np.clip(residual, exact, 1.0)
        else:
            scale = np.maximum(residual, exact * self.response_power + _NOTHING)
        # Rates and weights in any units: less than one row, or one count, in all would make any start an optimum.
        mass = self.n if power else self.n * np.sqrt(self.response_power)
        n = np.where((mass > 0) & (mass < 1), self.n / mass, self.n)
        return np.sqrt(n * at_one / scale**power)

    def gram(self, theta, shared: bool, dense: bool) -> Gram:
        """Return the curvature-weighted second moments of the features, about the weighted mean.

        With `shared` one unweighted matrix serves all lanes, scaled by each lane's mean curvature: exact where
        the predictor is constant, as at the start of a fit.
        """
        found = rows.moments_at(self.spec, self.shards, theta, shared, dense, self.dtype)
        return _centred(*found, self.n, self.shards.centre, shared)

    def with_scale(self, scale) -> Objective:
        """Return the objective at other dispersions (lanes, responses)."""
        return replace(self, shards=self.shards.with_scale(self.shards.padded(scale)), known=None)

    def select(self, keep) -> Objective:
        """Return the objective of some of the lanes, given their positions."""
        some = lambda a: a if a is None or len(a) == 1 else a[keep]  # noqa: E731
        return replace(
            self, shards=self.shards.select(keep), n=self.n[keep],
            response_power=self.response_power[keep], prior=self.prior.select(keep),
            mask=some(self.mask), known=None,
        )  # fmt: skip


def _centred(total, moments, n, shift, shared: bool) -> Gram:
    """Return means over rows, with the second moments about the mean of the features instead of `shift`."""
    lanes, columns = total.shape
    n_features = len(shift)
    mass, mean, moment = moments
    mass = np.where(mass > 0, mass, 1.0)[:, None]
    off = mean / mass
    if moment.shape[1] == n_features:
        centred = moment / mass - off**2
    else:
        upper = np.triu_indices(n_features)
        where = np.zeros((n_features, n_features), dtype=int)
        where[upper] = where.T[upper] = np.arange(len(upper[0]))
        centred = (moment / mass - off[:, upper[0]] * off[:, upper[1]])[:, where]
    shape = (lanes, columns) if not shared else (1, 1)
    mean = np.broadcast_to((off + shift).reshape(*shape, -1), (lanes, columns, n_features))
    centred = centred.reshape(*shape, *centred.shape[1:])
    total = total / n[:, None]
    return Gram(mean, total, total.reshape(total.shape + (1,) * (centred.ndim - 2)) * centred)


__all__ = ["Gram", "Objective", "Point"]
