"""Priors with a kink at zero for each coefficient by itself."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayesglm.distributions import ElasticNet as ElasticNetPrior
from bayesglm.prior._gaussian import Gaussian
from bayesglm.prior._terms import Bend, Mixable, Term, lane_sum, namespace

# Step of differences, relative to a coefficient, that stand in for derivatives nobody has written down.
_DIFFERENCE = 1e-4


class Separable(Term):
    """A penalty with a kink at zero for each coefficient by itself; the base of priors of one's own.

    A subclass defines `penalty`, `shrunk` and `density`, each a function of coefficients and :attr:`arrays` (one array,
    `rate`, by default), elementwise, written with `jax.numpy`. The penalty is zero at zero, convex, and proportional to
    the arrays. Other attributes must be hashable.
    """

    arrays = ("rate",)
    smooth = False

    def bend(self, coef) -> Bend:
        """Return slopes and curvatures away from the kink, where a Newton step may move a coefficient."""
        rates = [np.broadcast_to(getattr(self, name), coef.shape) for name in self.arrays]
        active = (coef != 0) | (sum(rates) == 0)
        step = _DIFFERENCE * np.abs(coef)
        low, here, high = (
            np.asarray(self.penalty(at, *rates)) for at in (coef - step, coef, coef + step)
        )
        by = np.where(step > 0, step, 1.0)
        curvature = np.maximum((high - 2.0 * here + low) / by**2, 0.0)
        # what is left of rounding where the penalty is linear
        curvature = np.where(curvature * by > 1e-6 * np.abs(high - low) / by, curvature, 0.0)
        diagonal = np.eye(coef.shape[-1]) * curvature[..., None] if curvature.any() else None
        return Bend(active, (high - low) / (2.0 * by), diagonal)

    def crossing(self, new, old):
        """Return where a step crosses the kink."""
        return (new * old < 0) & (sum(getattr(self, name) for name in self.arrays) > 0)

    def level(self, diagonal):
        """Return a diagonal that the prox can take: any."""
        return diagonal

    def candidates(self, coef):
        """Return shifts (lanes, responses, candidates, features) among which one makes the penalty least.

        Parameters
        ----------
        coef : array (lanes, responses, classes, features)
        """
        return coef

    def recentred(self, coef, free):
        """Return `coef` shifted by the same number for all classes, to the least penalty.

        Parameters
        ----------
        coef : array (lanes, responses, classes, features)
        free : bool array (lanes, responses, 1, features)
            Where the loss does not see a shift.
        """
        each = self.mapped(lambda a: np.broadcast_to(a, columns_of(coef).shape).reshape(coef.shape))
        rates = [getattr(each, name) for name in self.arrays]
        options = each.candidates(coef)
        values = [np.sum(np.asarray(self.penalty(coef - shift[:, :, None], *rates)), axis=2)
                  for shift in np.moveaxis(options, 2, 0)]  # fmt: skip
        best = np.argmin(np.stack(values, 2), 2)[:, :, None]
        return coef - np.where(free, np.take_along_axis(options, best, axis=2), 0.0)


def columns_of(by_class):
    """Shape (lanes, responses, classes, features) as (lanes, columns, features)."""
    return by_class.reshape(len(by_class), -1, by_class.shape[-1])


class Laplace(Separable):
    """Laplace prior: ``rate * abs(w)``.

    References
    ----------
    Tibshirani (1996) doi:10.1111/j.2517-6161.1996.tb02080.x; Park, Casella (2008) doi:10.1198/016214508000000337
    """

    degree = 1.0

    def penalty(self, coef, rate):
        """Return the penalty of each coefficient."""
        return rate * namespace(coef).abs(coef)

    def shrunk(self, coef, rate):
        """Return the soft threshold."""
        xp = namespace(coef)
        return xp.sign(coef) * xp.maximum(xp.abs(coef) - rate, 0.0)

    def density(self, rate):
        """Return the Laplace distribution."""
        return dist.Laplace(0.0, 1.0 / rate)

    def bend(self, coef):
        """Return slopes away from the kink."""
        return Bend((coef != 0) | (self.rate == 0), self.rate * np.sign(coef))

    def candidates(self, coef):
        """Return the kinks, and where the slope between two of them vanishes."""
        return _kinks_and_between(coef, self.rate, np.zeros_like(coef))

    def stand_in(self, coef, n_kappa, mask, normalised):
        """Return the energy of a normal prior of the same variance, two over the squared rate."""
        (rate,) = self.rates(n_kappa)
        return 0.25 * lane_sum(jnp.square(rate * coef))

    def mixable(self, mask):
        """Return the scale mixture: an exponential one for each coefficient (Park, Casella 2008)."""
        return _mixable(self.rate, mask)


def _mixable(rate, mask, ridge=None) -> Mixable:
    strength = np.broadcast_to(rate, mask.shape)
    cells = np.arange(mask[0].size).reshape(mask.shape[1:])
    member = np.where(mask & (strength > 0), cells, -1)
    flat = strength.reshape(len(mask), -1)
    column = np.repeat(np.arange(mask.shape[1]), mask.shape[2])
    return Mixable(member, np.ones_like(flat), flat, np.broadcast_to(column, flat.shape), ridge)


def _kinks_and_between(w, l1, l2):
    """Return candidates for the minimum of a sum over classes of l1 |w - s| + l2 (w - s)^2 / 2 over shifts s."""
    order = np.argsort(w, axis=2)
    ranked = np.take_along_axis(l1, order, axis=2)
    below = np.pad(np.cumsum(ranked, axis=2), [(0, 0), (0, 0), (1, 0), (0, 0)])
    pull = below[:, :, -1:] - 2.0 * below
    curvature = l2.sum(2, keepdims=True)
    flat = np.where(curvature > 0, curvature, 1.0)
    between = np.where(curvature > 0, ((l2 * w).sum(2, keepdims=True) + pull) / flat, 0.0)
    return np.concatenate([w, between], axis=2)


class ElasticNet(Separable):
    """Elastic net: ``l1 * abs(w) + l2 / 2 * w**2``.

    References
    ----------
    Zou, Hastie (2005) doi:10.1111/j.1467-9868.2005.00503.x; Li, Lin (2010) doi:10.1214/10-BA506
    """

    arrays = ("l1", "l2")

    def penalty(self, coef, l1, l2):
        """Return the penalty of each coefficient."""
        xp = namespace(coef)
        return l1 * xp.abs(coef) + 0.5 * l2 * xp.square(coef)

    def total(self, coef, l1, l2):
        """Return the penalty of each lane."""
        xp = namespace(coef)
        return lane_sum(l1 * xp.abs(coef)) + 0.5 * lane_sum(l2 * xp.square(coef))

    def shrunk(self, coef, l1, l2):
        """Return the soft threshold, scaled."""
        xp = namespace(coef)
        return xp.sign(coef) * xp.maximum(xp.abs(coef) - l1, 0.0) / (1.0 + l2)

    def density(self, l1, l2):
        """Return the elastic net distribution."""
        return ElasticNetPrior(l1, l2)

    def pull(self, coef):
        """Return the gradient of the quadratic part."""
        return self.l2 * coef

    push = pull

    def diagonal(self):
        """Return the curvature of the quadratic part."""
        return self.l2

    def kink(self):
        """Return the absolute part."""
        return Laplace(self.l1, features=self.features, unit=self.unit)

    def quadratic(self):
        """Return the quadratic part."""
        return Gaussian(None, self.l2, features=self.features, unit=self.unit)

    def candidates(self, coef):
        """Return the kinks, and where the slope between two of them vanishes."""
        return _kinks_and_between(coef, self.l1, self.l2)

    def mixable(self, mask):
        """Return the scale mixture, with the quadratic part beside it (Li, Lin 2010)."""
        return _mixable(self.l1, mask, self.l2)
