"""The passes over few rows, in NumPy: what those of :mod:`bayesglm.rows._passes` return, with nothing to compile.

Losses and their derivatives are those of JAX, traced once for a family and link (:mod:`bayesglm.rows._interpreter`).
Rows in float32 are widened. The sums of the compiled passes are float64, too, and a fit is finished in float64 whatever
its rows are in (`solvers.refined`), so that this is the same optimum, sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm.rows._interpreter import interpreted
from bayesglm.rows._kernels import (
    KHATRI_RAO_FROM,
    KHATRI_RAO_PAIRS,
    Spec,
    distribution,
    loss_of_each,
    squared_residuals,
)
from bayesglm.rows._shards import Data

#: Entries (rows, times features and what stands for the family, times columns) up to which passes run in NumPy.
LARGEST = 1 << 18
# What family and link cost of a row, in features.
_FAMILY = 4
# Families and links whose formulas are kept.
_KEPT = 256


class Formulas(NamedTuple):
    """What the passes compute of each response, from its predictor, itself and its dispersion."""

    slopes: Callable  # loss, slope and, for families with a free dispersion, squared residual
    curvature: Callable  # where there are classes, of the one that a further argument says
    # First and second derivative of the log-likelihood in the log of the dispersion, which takes its place.
    of_log_scale: Callable | None
    # Kappa at a dispersion of 1, the power that divides it, and whether residuals are relative.
    unit: np.ndarray


def is_small(spec: Spec, n_rows: int, n_features: int, n_columns: int) -> bool:
    """Return whether passes over so many rows, for the columns of all lanes together, run in NumPy."""
    return n_rows * (n_features + _FAMILY) * n_columns <= LARGEST and formulas(spec) is not None


@lru_cache(_KEPT)
def formulas(spec: Spec) -> Formulas | None:
    """Return the formulas of a family and link; None where only JAX can compute them."""
    eta = 0.0 if spec.n_classes is None else np.zeros(spec.n_classes)
    direction = () if spec.n_classes is None else (eta,)
    slopes = interpreted(lambda *at: _slopes(spec, *at), eta, 1.0, 1.0)
    curvature = interpreted(lambda *at: _curvature(spec, *at), eta, 1.0, 1.0, *direction)
    unit = interpreted(lambda *at: _unit(spec, *at), eta, 1.0)
    if slopes is None or curvature is None or unit is None:
        return None
    of_log_scale = None
    if spec.n_classes is None:
        of_log_scale = interpreted(lambda *at: _of_log_scale(spec, *at), eta, 1.0, 0.0)
    at_one = [float(a) for a in unit(np.float64(0), np.float64(1))]
    return Formulas(slopes, curvature, of_log_scale, np.array(at_one))


def of_each(function: Callable, first, *others, classes: bool = False) -> np.ndarray | None:
    """Return what a function makes of each response, in NumPy; None where there are many, or only JAX can compute it.

    Parameters
    ----------
    function
        Elementwise, in `jax.numpy`, and hashable: it is traced once.
    first
        Array of its first argument, such as predictors; with `classes`, these are on its last axis.
    *others
        Arrays of the other arguments, without such an axis.
    """
    if first.size * _FAMILY > LARGEST:
        return None
    formula = _of_each(function, first.shape[-1] if classes else None, first.dtype, len(others))
    if formula is None:
        return None
    with np.errstate(all="ignore"):
        (found,) = formula(np.moveaxis(first, -1, 0) if classes else first, *others)
    return np.moveaxis(found, 0, -1) if classes and found.ndim == first.ndim else found


@lru_cache(_KEPT)
def _of_each(function: Callable, n_classes, dtype, n_others: int) -> Callable | None:
    first = dtype.type(0) if n_classes is None else np.zeros(n_classes, dtype)
    return interpreted(lambda *at: (function(*at),), first, *(dtype.type(0),) * n_others)


def _slopes(spec: Spec, eta, y, scale):
    found = jax.value_and_grad(lambda eta: loss_of_each(spec, y, eta, scale))(eta)
    residual = squared_residuals(spec, y, eta)
    return found if residual is None else (*found, residual)


def _curvature(spec: Spec, eta, y, scale, direction=1.0):
    slope = jax.grad(lambda eta: loss_of_each(spec, y, eta, scale))
    bend = jax.jvp(slope, (eta,), (jnp.asarray(direction, float),))[1]
    return (jnp.abs(jnp.sum(bend * direction) if jnp.ndim(direction) else bend),)


def _of_log_scale(spec: Spec, eta, y, log_scale):
    slope = jax.grad(lambda t: distribution(spec, eta, jnp.exp(t)).log_prob(y))
    return slope(log_scale), jax.grad(slope)(log_scale)


def _unit(spec: Spec, eta, scale):
    found = distribution(spec, eta, scale)
    free = squared_residuals(spec, jnp.asarray(1.0), eta) is not None
    relative = free and found.relative_residual
    return tuple(jnp.asarray(a, float) for a in (getattr(found, "kappa", 1.0), free, relative))


def evaluate(spec: Spec, data: Data, theta):
    """Return gradient, loss, residual and range of the predictor of a shard."""
    rows = _Rows.of(data, theta)
    formula = formulas(spec)
    loss, slope, *residual = formula.slopes(_by_class(spec, rows.inside()), rows.y, rows.scale)
    r = rows.weigh_columns(_by_column(spec, slope, rows.eta.shape))
    gradient = np.concatenate([_product(r, rows.X), r.sum(-1, keepdims=True)], -1)
    loss = rows.weigh(loss).sum((1, 2))
    residual = rows.weigh(residual[0]).sum((1, 2)) if residual else np.zeros_like(loss)
    return (gradient, loss, residual), rows.ends(), formula.unit


def moments(spec: Spec, data: Data, theta, shift, shared: bool, dense: bool):
    """Sum what :func:`bayesglm.rows.moments_at` says over the rows of a shard, about `shift`."""
    rows = _Rows.of(data, theta)
    w = rows.weigh_columns(_by_column(spec, _curvatures(spec, rows), rows.eta.shape))
    total = w.sum(-1)
    w = rows.weight.mean((0, 1))[None] if shared else w.reshape(-1, w.shape[-1])
    X = rows.X - shift
    return total, (w.sum(-1), w @ X, _second_moments(w, X, dense))


def derivatives(spec: Spec, data: Data, theta, log_scale):
    """Return the derivatives of the log-likelihood in the log of the dispersion, summed over the rows of a shard."""
    rows = _Rows.of(data, theta)
    both = formulas(spec).of_log_scale(rows.inside(), rows.y, log_scale[..., None])
    return [rows.weigh(each).sum(-1) for each in both]


class _Rows(NamedTuple):
    """Rows of the lanes in use, in float64; the shapes are those of :class:`Data`."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    eta: np.ndarray
    scale: np.ndarray
    used: np.ndarray | None  # which rows have a weight, where some have none

    @classmethod
    def of(cls, data: Data, theta) -> _Rows:
        """Return the rows with their predictors at `theta`."""
        lanes, columns, _ = theta.shape

        which = slice(lanes) if data.which is None else data.which[:lanes]

        def some(array):
            return np.asarray(array if len(array) == 1 else array[which], float)

        X, weight = np.asarray(data.X.first, float), some(data.weight)
        if data.which is not None:
            left_out = data.left_out[:lanes, None, None]
            weight = weight * (data.fold != left_out).all(1, keepdims=True)
        coef = theta[..., :-1].reshape(lanes * columns, -1)
        eta = (coef @ X.T).reshape(lanes, columns, -1) + theta[..., -1:]
        if data.offset is not None:
            eta += some(data.offset)
        used = weight > 0
        y, scale = np.broadcast_arrays(some(data.y), eta[:, :1, :1])[0], data.scale[:lanes]
        return cls(X, y, weight, eta, np.asarray(scale, float), None if used.all() else used)

    def by_column(self, array) -> np.ndarray:
        """Repeat what a response has for each of its classes."""
        responses, columns = array.shape[1], self.eta.shape[1]
        return array if responses in (1, columns) else np.repeat(array, columns // responses, 1)

    def inside(self) -> np.ndarray:
        """Return the predictors; those of rows without weight, which may lie outside the domain of the link, are 1."""
        return self.eta if self.used is None else np.where(self.by_column(self.used), self.eta, 1.0)

    def weigh(self, values) -> np.ndarray:
        """Weigh a value of each response; what a row without weight has may be anything."""
        values = self.weight * np.broadcast_to(values, self.y.shape)
        return values if self.used is None else np.where(self.used, values, 0.0)

    def weigh_columns(self, values) -> np.ndarray:
        """Weigh a value of each column."""
        values = self.by_column(self.weight) * values
        return values if self.used is None else np.where(self.by_column(self.used), values, 0.0)

    def ends(self) -> np.ndarray:
        """Return minus the smallest, and the largest predictor of each lane, (lanes, 2)."""
        low = high = self.eta
        if self.used is not None:
            used = self.by_column(self.used)
            low, high = np.where(used, low, np.inf), np.where(used, high, -np.inf)
        return np.stack([-low.min((1, 2)), high.max((1, 2))], -1)


def _curvatures(spec: Spec, rows: _Rows):
    """Return the second derivative of each loss in its own predictor, with classes first."""
    formula = formulas(spec).curvature
    at = _by_class(spec, rows.inside()), rows.y, rows.scale
    if spec.n_classes is None:
        return formula(*at)[0]
    each = (formula(*at, one[:, None, None, None])[0] for one in np.eye(spec.n_classes))
    return np.stack([np.broadcast_to(a, at[0].shape[1:]) for a in each])


def _by_class(spec: Spec, eta):
    """Put the axis of the classes first, where there are some."""
    if spec.n_classes is None:
        return eta
    lanes, _, n_rows = eta.shape
    return np.moveaxis(eta.reshape(lanes, -1, spec.n_classes, n_rows), 2, 0)


def _by_column(spec: Spec, values, shape):
    """Return values of responses, or of their classes, as the predictors have them, in their shape."""
    if spec.n_classes is None:
        return np.broadcast_to(values, shape)
    lanes, columns, n_rows = shape
    by_class = spec.n_classes, lanes, columns // spec.n_classes, n_rows
    return np.moveaxis(np.broadcast_to(values, by_class), 0, 2).reshape(shape)


def _product(r, X):
    """Return the sum over rows of r (lanes, columns, rows) times X (rows, features)."""
    return (r.reshape(-1, len(X)) @ X).reshape(*r.shape[:-1], -1)


def _second_moments(w, X, dense: bool):
    """Sum w x x' over the rows of X for each row of w, as its upper triangle, or its diagonal."""
    if not dense:
        return w @ (X * X)
    upper = np.triu_indices(X.shape[1])
    if len(w) >= KHATRI_RAO_FROM and len(upper[0]) <= KHATRI_RAO_PAIRS:
        return w @ (X[:, upper[0]] * X[:, upper[1]])
    roots = (X * root[:, None] for root in np.sqrt(w))
    return np.stack(
        [(Z.T @ Z)[upper] for Z in roots]
    )  # a product that is known to be symmetric costs half
