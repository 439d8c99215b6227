"""The normal prior, along the features of every output."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayesglm.prior import _distributions
from bayesglm.prior._precision import Dense, Diagonal, Pinned, Precision
from bayesglm.prior._terms import Term, lane_sum, namespace

# Rounding of a row of a precision that sums to zero, relative to its diagonal.
_ROUNDING = 1e-10


class Gaussian(Term):
    r"""Normal prior with the precision ``unit * strength * P``, flat on the null space of P.

    .. math:: t(w) = \tfrac12 s\, (w - m)' P (w - m)

    Parameters
    ----------
    precision : Precision, array (features, features), or None
        P; the identity by default. Features that are out of use are zero, the others have the precision given that.
    strength : number or array that broadcasts to (features, *outputs)
        The same for all features of an output, unless P is diagonal.
    location : number or array that broadcasts to (features, *outputs), optional
        The mode m; zero by default.
    features, unit
        As for :class:`Term`.
    """

    arrays = ("strength",)
    degree = 0.5
    _held = ("location", "precision", "rank", "base_log_det")

    def __init__(self, precision=None, strength=1.0, location=None, *, features=None, unit="row"):
        super().__init__(strength, features=features, unit=unit)
        if precision is not None and not isinstance(precision, Precision):
            precision = Dense(precision)
        self.location, self.precision = location, precision
        # of the precision among the coefficients in use, (lanes, columns), in lane form
        self.rank = self.base_log_det = None

    @property
    def couples(self):
        """Whether its curvature is more than a diagonal."""
        return self.precision is not None

    @property
    def is_pinned(self):
        """Whether the mean of its features was given a prior of its own."""
        return isinstance(self.precision, Pinned)

    def mapped(self, function):
        """Return the same term with a function of each array with an entry per coefficient."""
        location = None if self.location is None else function(self.location)
        return super().mapped(function).replace(location=location)

    def checked_strengths(self, values, shape):
        """Return an array of strengths, or the location, that fits the coefficients."""
        if values is self.location:  # of any sign
            return np.asarray(values, float)
        return super().checked_strengths(values, shape)

    # -- at the edge -------------------------------------------------------------------------------

    def of_shape(self, shape):
        """Return the term with its arrays in full; a diagonal precision becomes part of the strength."""
        full, precision = super().of_shape(shape), self.precision
        if precision is None:
            return full
        if precision.size != shape[0]:
            raise ValueError(
                f"The precision has {precision.size} rows, but the prior covers {shape[0]} features."
            )
        if isinstance(precision, Diagonal):
            each = precision.diagonal().reshape(-1, *(1,) * (len(shape) - 1))
            return full.replace(strength=full.strength * each, precision=None)
        if shape[0] and np.ptp(full.strength, axis=0).any():
            raise ValueError(
                "A precision that is not diagonal takes one strength for all features that it couples, but several "
                "were given. Put them into the matrix."
            )
        return full

    def null_space(self, mask):
        """Return directions that are flat, (features, directions), of one output's mask (features,)."""
        if not self.couples:
            return super().null_space(mask)
        inner = self.precision.restricted(mask).null_space()
        found = np.zeros((len(mask), inner.shape[1]))
        found[mask] = inner
        return found

    def leaves_constant_free(self, mask):
        """Return whether it has a strength, but none along equal changes of all features of an output in use."""
        if not self.couples or not np.any(self.strength > 0):
            return False
        if (mask.any(axis=0) != mask.all(axis=0)).any():
            return False
        left = np.abs(self.precision.along(np.ones(self.precision.size)))
        return bool(np.max(left) <= _ROUNDING * np.max(self.precision.diagonal(), initial=0.0))

    def pinned(self, mask, rate):
        """Return the term with a proper prior of the mean of an output's features."""
        positive = self.strength[self.strength > 0]
        own = rate / (self.precision.size**2 * np.exp(np.mean(np.log(positive))))
        return self.replace(precision=Pinned(self.precision, own))

    def same_for_classes(self):
        """Return whether it is the same for all classes, around zero: no other location sums to zero over them."""
        around_zero = self.location is None or not np.any(self.location)
        return around_zero and not np.ptp(self.strength, axis=-1).any()

    def convexity(self):
        """Return the strength."""
        return self.strength

    def covers_unused(self):
        """Return whether coefficients out of use have a proper density too."""
        return not self.couples

    def distribution(self, n_kappa, mask, zero_sum):
        """Return the NumPyro distribution of coefficients (features, *outputs)."""
        if self.couples:
            (rate,) = self.rates(n_kappa)
            rank, log_det = self._moments(mask)
            location = np.zeros(mask.shape) if self.location is None else self.location
            rate = jnp.broadcast_to(rate, mask.shape)[0]
            return _distributions.CoupledNormal(
                self.precision, rate, rank, log_det, location, mask, zero_sum
            )
        if not zero_sum:
            return super().distribution(n_kappa, mask, zero_sum)
        alone = self.proper(mask)[..., 0]
        rate = jnp.broadcast_to(self.rates(n_kappa)[0], mask.shape)[..., 0]
        rate = jnp.where(alone, rate, 1.0)
        return _distributions.zero_sum_normal(rate, ~mask[..., 0] | alone, mask.shape)

    def _moments(self, mask):
        """Return rank and log-determinant of the precision among the coefficients in use, (*outputs)."""
        columns = mask.reshape(len(mask), -1).T
        patterns, which = np.unique(columns, axis=0, return_inverse=True)
        some = [self.precision.restricted(used) for used in patterns]
        found = np.array([(each.rank, each.log_det()) for each in some], float)[which.ravel()]
        return np.moveaxis(found.reshape(*mask.shape[1:], 2), -1, 0)

    def in_lanes(self, to_lanes, mask):
        """Return the term in lane form."""
        lanes = super().in_lanes(to_lanes, mask)
        if self.location is not None:
            lanes = lanes.replace(location=np.where(to_lanes(mask), lanes.location, 0.0))
        if not self.couples:
            return lanes
        rank, log_det = (to_lanes(a[None])[..., 0] for a in self._moments(mask))
        leading = _leading(self.precision)
        strength = lanes.strength[..., :1]
        return lanes.replace(strength=strength, precision=leading, rank=rank, base_log_det=log_det)

    # -- of lanes ----------------------------------------------------------------------------------

    def _off(self, coef):
        return coef if self.location is None else coef - self.location

    def _times(self, step):
        return step if self.precision is None else self.precision.along(step)

    def total(self, coef, strength):
        """Return the penalty of each lane."""
        off = self._off(coef)
        if self.precision is None:
            return 0.5 * lane_sum(strength * namespace(coef).square(off))
        return 0.5 * lane_sum(strength * off * self._times(off))

    def density(self, strength):
        """Return the normal distribution of single coefficients."""
        location = 0.0 if self.location is None else self.location
        return dist.Normal(location, 1.0 / jnp.sqrt(strength))

    def pull(self, coef):
        """Return the gradient."""
        return self.strength * self._times(self._off(coef))

    def push(self, step):
        """Return the curvature times a step."""
        return self.strength * self._times(step)

    def kink(self):
        """None."""

    def diagonal(self):
        """Return the diagonal of the curvature; broadcasts to (lanes, columns, features)."""
        return (
            self.strength if self.precision is None else self.strength * self.precision.diagonal()
        )

    def matrix(self):
        """Return the curvature as matrices that broadcast to (lanes, columns, features, features)."""
        return self.strength[..., None] * self.precision.dense()

    def log_det(self, mask):
        """Return the log-determinant on the range of the precision of each column, (lanes, columns)."""
        if self.precision is None:
            own = np.where(mask & (self.strength > 0), self.strength, 1.0)
            return np.sum(np.log(own), axis=-1)
        strength = np.broadcast_to(self.strength[..., 0], mask.shape[:2])
        positive = strength > 0
        own = self.rank * np.log(np.where(positive, strength, 1.0)) + self.base_log_det
        return np.where(positive, own, 0.0)

    def trace(self, covariance):
        """Return the trace of the precision times covariances (lanes, columns, features, features)."""
        if self.precision is None:
            return np.sum(self.strength * np.diagonal(covariance, axis1=-2, axis2=-1), axis=-1)
        return self.strength[..., 0] * self.precision.trace(covariance)

    def shrunk(self, coef, strength):
        """Return the minimiser of the penalty plus half the squared distance."""
        xp = namespace(coef)
        if self.location is not None:
            coef = coef + strength * self._times(self.location)
        if self.precision is None:
            return coef / (1.0 + strength)
        curved = strength[..., None] * self.precision.dense() + np.eye(coef.shape[-1])
        return xp.linalg.solve(curved, coef[..., None])[..., 0]

    def dimensions(self, mask):
        """Return half the number of proper dimensions of each column, (lanes, columns)."""
        if not self.couples or self.unit == "absolute":
            return super().dimensions(mask)
        return self.degree * np.where(self.strength[..., 0] > 0, self.rank, 0.0)

    def log_prob(self, coef, n_kappa, mask, zero_sum):
        """Return the log-density, normalised, of the coefficients in use."""
        if self.couples:
            (rate,) = self.rates(n_kappa)
            off = jnp.where(mask, self._off(coef), 0.0)
            squared = jnp.sum(off * self._times(off), axis=-1)
            rate = jnp.broadcast_to(rate[..., 0], squared.shape)
            found = _distributions.coupled_log_prob(
                rate, self.rank, self.base_log_det, squared, zero_sum
            )
            return jnp.sum(found, axis=-1)
        found = super().log_prob(coef, n_kappa, mask, zero_sum)
        if not zero_sum:
            return found
        # one dimension less than there are classes, all alike
        proper, density = self.sound(n_kappa, mask)
        top = jnp.broadcast_to(density.log_prob(density.loc), mask.shape)
        return found - lane_sum(jnp.where(proper, top, 0.0)) / mask.shape[-2]

    def stand_in(self, coef, n_kappa, mask, normalised):
        """Return the energy: it is normal."""
        return self.energy(coef, n_kappa, mask, normalised)

    # A kink elsewhere does not concern it.
    def recentred(self, coef, free):
        """Return `coef` (lanes, responses, classes, features) shifted to the weighted mean of its classes."""
        columns = (len(coef), -1, coef.shape[-1])
        strength = np.broadcast_to(self.strength, coef.reshape(columns).shape).reshape(coef.shape)
        total = strength.sum(2, keepdims=True)
        off = self._off(coef.reshape(columns)).reshape(coef.shape)
        shift = (strength * off).sum(2, keepdims=True) / np.where(total > 0, total, 1.0)
        return coef - np.where(free & (total > 0), shift, 0.0)


def _leading(precision: Precision):
    """Return the operator with a leading axis of length one for all of its arrays."""
    return jax.tree.map(lambda a: np.asarray(a)[None], precision)
