r"""The terms that priors are made of; each formula of a prior stands here, once.

With :math:`n` rows and :math:`\kappa` the family's factor between loss and log-density, a term of unit "row" is the
penalty :math:`t(w)` of the documented objective and the density :math:`\exp(-n \kappa\, t(w)) / Z`; one of unit
"absolute" is the density :math:`\exp(-t(w)) / Z` whatever the data.

A term is written down at the edge, where its arrays are (features, *outputs). Solvers and samplers take it in lane
form, arrays (lanes or 1, columns, features); methods that are said to be of lanes take coefficients (..., columns,
features) in NumPy or JAX, and return one number for each lane.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayesglm.prior import _distributions

UNITS = ("row", "absolute")


def namespace(array):
    """Return NumPy or JAX, whichever the array belongs to."""
    return np if isinstance(array, np.ndarray) else jnp


def lane_sum(values):
    """Sum over columns and features."""
    return namespace(values).sum(values, axis=(-2, -1))


class Bend(NamedTuple):
    """A kinked term where it is smooth: for a Newton step among the coefficients that are not at a kink."""

    active: Any  # bool, of the shape of the coefficients
    slope: Any  # likewise
    curvature: Any = None  # (..., features, features), or None where there is none


class Mixable(NamedTuple):
    """A kinked term as a scale mixture of normals, one mixing variable for each member of a group of coefficients."""

    member: np.ndarray  # (lanes, columns, features): index of the mixing variable, -1 for none
    shape: np.ndarray  # (lanes, variables) of its Gamma distribution
    strength: np.ndarray  # (lanes, variables): rate of the kink
    column: np.ndarray  # (lanes, variables): whose n kappa the rate counts in
    ridge: np.ndarray | None = None  # (lanes, columns, features): quadratic rate beside the kink


class Term:
    """A prior of some features of every output.

    Parameters
    ----------
    *values : numbers or arrays that broadcast to (features, *outputs)
        What :attr:`arrays` names.
    features : slice, range or sequence of int, optional
        Rows of the coefficients that it covers; all by default.
    unit : "row" or "absolute"
        Whether its strength counts per row of data (times kappa), or as it is.
    """

    #: Names of the arrays with an entry per coefficient, all of which scale with the strength.
    arrays: tuple[str, ...] = ("strength",)
    #: Whether it is differentiable everywhere.
    smooth = True
    #: Whether its curvature is more than a diagonal.
    couples = False
    #: Whether the mean of its features was given a prior of its own.
    is_pinned = False
    #: Power of its rates in the normalisation, per dimension; None if that is not a power.
    degree: float | None = None
    _held: tuple[str, ...] = ()

    def __init__(self, *values, features=None, unit: str = "row"):
        if unit not in UNITS:
            raise ValueError(f"`unit` must be one of {UNITS}, but {unit!r} was given.")
        self.__dict__.update(zip(self.arrays, values, strict=True))
        self.features, self.unit = features, unit

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def _flatten(self):
        names = (*self.arrays, *self._held)
        rest = {name: value for name, value in self.__dict__.items() if name not in names}
        return tuple(self.__dict__.get(name) for name in names), tuple(sorted(rest.items()))

    @classmethod
    def _unflatten(cls, rest, values):
        new = object.__new__(cls)
        names = (*cls.arrays, *cls._held)
        new.__dict__.update(zip(names, values, strict=True), **dict(rest))
        return new

    def replace(self, **changes) -> Term:
        """Return the same term with other attributes."""
        new = copy.copy(self)
        new.__dict__.update(changes)
        return new

    def mapped(self, function) -> Term:
        """Return the same term with a function of each array with an entry per coefficient."""
        values = ((name, getattr(self, name)) for name in self.arrays)
        return self.replace(**{name: v if v is None else function(v) for name, v in values})

    @property
    def strengths(self) -> tuple[str, ...]:
        """Names of the arrays that are zero where it is flat."""
        return self.arrays

    # -- at the edge -------------------------------------------------------------------------------

    def of_shape(self, shape) -> Term:
        """Return the term with its arrays in full, (features, *outputs)."""
        return self.mapped(lambda a: np.broadcast_to(self.checked_strengths(a, shape), shape))

    def checked_strengths(self, values, shape) -> np.ndarray:
        """Return an array of strengths that fits the coefficients."""
        values = np.asarray(values, float)
        try:
            fits = np.broadcast_shapes(values.shape, shape) == tuple(shape)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{type(self).__name__} covers coefficients of shape {tuple(shape)}, to which an array of shape "
                f"{values.shape} does not broadcast."
            )
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(
                f"Strengths of {type(self).__name__} must be finite and non-negative, but reach from "
                f"{values.min():.4g} to {values.max():.4g}."
            )
        return values

    def select(self, neurons) -> Term:
        """Return the term of some of the neurons."""
        return self.mapped(lambda a: a[:, neurons])

    def proper(self, mask):
        """Return where it has a strength, bool (features, *outputs); what else is flat is its :meth:`null_space`."""
        return mask & (sum(getattr(self, name) for name in self.arrays) > 0)

    def null_space(self, mask) -> np.ndarray:
        """Return what is flat beside single coefficients, (features, directions), of one output's mask (features,)."""
        return np.zeros((len(mask), 0))

    def pinned(self, mask, rate: float) -> Term:
        """Return the term with a proper prior of the mean of each output's features, where it has none and that is all.

        Parameters
        ----------
        mask : bool array (features, *outputs)
            Coefficients in use.
        rate : float
            Of the penalty ``rate / 2 * mean(coef)**2``, in its own unit.
        """
        return self

    def leaves_constant_free(self, mask) -> bool:
        """Return whether it has a strength, but none along equal changes of all features of an output in use."""
        return False

    def convexity(self):
        """Return the curvature of a normal prior of single coefficients, zero of others."""
        return 0.0

    def ties(self, n_neurons: int) -> bool:
        """Return whether it makes coefficients of several neurons depend on one another."""
        return False

    def same_for_classes(self) -> bool:
        """Return whether it is quadratic, and the same for all classes (the last output)."""
        return False

    def distribution(self, n_kappa, mask, zero_sum: bool) -> dist.Distribution:
        """Return the NumPyro distribution of coefficients (features, *outputs).

        Parameters
        ----------
        n_kappa : array that broadcasts to the outputs
            n times kappa.
        mask : bool array (features, *outputs)
            Coefficients in use; the others have a rate of one, or are flat where :meth:`covers_unused` says so.
        """
        alone = mask & self.proper(mask)
        rates = (jnp.where(alone, rate, 1.0) for rate in self.rates(n_kappa))
        return _distributions.elementwise(self.density(*rates), ~mask | alone)

    def covers_unused(self) -> bool:
        """Return whether coefficients out of use have a proper density too."""
        return True

    def in_lanes(self, to_lanes, mask) -> Term:
        """Return the term in lane form.

        Parameters
        ----------
        to_lanes : callable
            Turns arrays (features, *outputs) into (lanes, columns, features).
        """
        return self.mapped(to_lanes)

    # -- of lanes ----------------------------------------------------------------------------------

    def rates(self, n_kappa):
        """Return the arrays in units of the log-density."""
        values = (getattr(self, name) for name in self.arrays)
        return tuple(v if self.unit == "absolute" else n_kappa * v for v in values)

    def scaled(self, n_kappa) -> Term:
        """Return the term with its arrays in units of the log-density."""
        names = dict(zip(self.arrays, self.rates(n_kappa), strict=True))
        return self.replace(**names, unit="absolute")

    def penalty(self, coef, *rates):
        """Return the penalty of each coefficient, given its rates: minus its log-density, up to a constant."""
        raise NotImplementedError(f"{type(self).__name__} must define `penalty(coef, *rates)`.")

    def density(self, *rates) -> dist.Distribution:
        """Return the NumPyro distribution of single coefficients with these rates."""
        raise NotImplementedError(f"{type(self).__name__} must define `density(*rates)`.")

    def prox(self, coef, step):
        """Return the minimiser over `w` of the term plus ``(w - coef)**2 / (2 * step)``."""
        return self.shrunk(coef, *(step * getattr(self, name) for name in self.arrays))

    def shrunk(self, coef, *rates):
        """Return the minimiser over each `w` of ``penalty(w, *rates) + (w - coef)**2 / 2``."""
        raise NotImplementedError(f"{type(self).__name__} must define `shrunk(coef, *rates)`.")

    def total(self, coef, *rates):
        """Return the penalty of each lane."""
        return lane_sum(self.penalty(coef, *rates))

    def value(self, coef):
        """Return the term of each lane."""
        return self.total(coef, *(getattr(self, name) for name in self.arrays))

    def pull(self, coef):
        """Return the gradient of the quadratic part, or None without one."""

    def push(self, step):
        """Return the curvature of the quadratic part times a step, or None."""

    def kink(self) -> Term | None:
        """Return what is left without the quadratic part."""
        return self

    def quadratic(self) -> Term | None:
        """Return what is left without the kink."""

    def dimensions(self, mask):
        """Return the number of proper dimensions of each column, (lanes, columns), times the degree."""
        if self.degree is None or self.unit == "absolute":
            return np.zeros(mask.shape[:2])
        return self.degree * np.sum(mask & (getattr(self, self.arrays[0]) > 0), axis=-1)

    def power(self, mask, responses: int):
        """Return the power of each response's n kappa in the normalisation, (lanes, responses)."""
        return self.dimensions(mask).reshape(len(mask), responses, -1).sum(axis=-1)

    def energy(self, coef, n_kappa, mask, normalised: bool):
        """Return minus the log-density, up to a constant.

        Parameters
        ----------
        n_kappa : array (columns, 1)
            n times kappa.
        normalised : bool
            Whether what depends on it and is no power of it counts: :meth:`power` is left to the caller.
        """
        if normalised and self.degree is None:
            return -self.log_prob(coef, n_kappa, mask, False)
        return self.total(coef, *self.rates(n_kappa))

    def sound(self, n_kappa, mask):
        """Return where it is proper, and the distribution of single coefficients, at a rate of one elsewhere."""
        rates = self.rates(n_kappa)
        proper = mask & (sum(rates) > 0)
        return proper, self.density(*(jnp.where(proper, rate, 1.0) for rate in rates))

    def log_prob(self, coef, n_kappa, mask, zero_sum: bool):
        """Return the log-density, normalised, of the coefficients in use."""
        proper, density = self.sound(n_kappa, mask)
        return lane_sum(jnp.where(proper, density.log_prob(coef), 0.0))

    def stand_in(self, coef, n_kappa, mask, normalised: bool):
        """Return the energy of a normal prior of the same variance in place of one with a kink."""
        proper, density = self.sound(n_kappa, mask)
        variance = density.variance
        each = 0.5 * (jnp.square(coef - density.mean) / variance + jnp.log(variance))
        return lane_sum(jnp.where(proper, each, 0.0))

    def mixable(self, mask) -> Mixable | None:
        """Return the term as a scale mixture of normals, if it is one that mixes better so."""


def rows_of(features, n_features: int):
    """Return the covered rows in a form that can be hashed: a range or a tuple; None for all.

    Raises
    ------
    ValueError
        If there is no such feature, or one is named twice.
    """
    if isinstance(features, slice):
        features = range(*features.indices(n_features))
    if features is None or (isinstance(features, range) and features == range(n_features)):
        return None
    rows = [int(row) for row in features]
    if any(not -n_features <= row < n_features for row in rows):
        raise ValueError(f"A term covers features {rows}, but there are {n_features}.")
    rows = [row % n_features for row in rows]
    if len(set(rows)) < len(rows):
        raise ValueError(f"A term covers a feature twice: {rows}.")
    return features if isinstance(features, range) else tuple(rows)


def moved(term: Term, rows: range) -> Term:
    """Return a term of some rows of a matrix, given that of these rows as a matrix of their own."""
    own = term.features
    if own is None:
        return term.replace(features=rows)
    if isinstance(own, range):
        return term.replace(features=range(own.start + rows.start, own.stop + rows.start, own.step))
    return term.replace(features=tuple(rows[i] for i in own))


jax.tree_util.register_pytree_node(Term, Term._flatten, Term._unflatten)


class Flat(Term):
    """A flat prior: no penalty."""

    arrays = ()
    degree = 0.0

    def __init__(self, features=None):
        super().__init__(features=features)

    def proper(self, mask):
        """Nowhere."""
        return np.zeros_like(mask)

    def same_for_classes(self):
        """Return True."""
        return True

    def covers_unused(self):
        """Return False."""
        return False

    def distribution(self, n_kappa, mask, zero_sum):
        """Return the flat distribution."""
        return _distributions.flat(mask.shape, zero_sum)

    def total(self, coef):
        """Zero."""
        return namespace(coef).zeros(coef.shape[:-2])

    def prox(self, coef, step):
        """Return `coef`."""
        return coef

    def kink(self):
        """None."""

    def dimensions(self, mask):
        """Zero."""
        return np.zeros(mask.shape[:2])

    def energy(self, coef, n_kappa, mask, normalised):
        """Zero."""
        return self.total(coef)

    stand_in = log_prob = energy
