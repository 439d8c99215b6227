r"""Sandwich errors: what the estimates vary by where the family, or the independence of rows, does not hold.

All are sums over *influences*: what one copy of a row moves each parameter by, its score times the inverse of the
curvature. Without a small-sample correction they are

.. math:: V_{HC} = \sum_i w_i \psi_i^2, \quad V_{CR} = \sum_g \Big(\sum_{i \in g} w_i \psi_i\Big)^2, \quad
          V_{HAC} = \sum_{|l| \le L} \Big(1 - \frac{|l|}{L + 1}\Big) \sum_t \psi_t \psi_{t + |l|}.

References
----------
White (1980) doi:10.2307/1912934; MacKinnon, White (1985) doi:10.1016/0304-4076(85)90158-7 (HC1 to HC3);
Liang, Zeger (1986) doi:10.1093/biomet/73.1.13 (clusters); MacKinnon, Nielsen, Webb (2023)
doi:10.1016/j.jeconom.2022.04.001 (CR1, and the cluster jackknife CR3); Newey, West (1987) doi:10.2307/1913610 (HAC).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._input import epochs, is_one_of, time_indexed
from bayesglm._sampling import _laplace, _target
from bayesglm.glm import _serial

HETEROSCEDASTIC = ("HC0", "HC1", "HC2", "HC3")
CLUSTER = ("CR1", "CR3")
#: The kinds with the best coverage (``python -m tests.studies.coverage``).
_BEST = {True: "HC3", "cluster": "CR3"}
# One minus the leverage of a row, or what is left of the curvature, below which the row decides a parameter alone.
_ALONE = 1e-8
# Bytes of the derivatives of the rows of some lanes.
_BYTES = 1 << 27


class Sandwich(NamedTuple):
    """Which errors are asked for."""

    kind: str
    groups: np.ndarray | None = None  # (samples,) indices, -1 where there is none
    trials: np.ndarray | None = None  # (samples,) indices that do not fall
    maxlags: int | None = None

    def words(self) -> str:
        """Return what was taken for granted."""
        if self.kind in CLUSTER:
            return f"sandwich {self.kind}, rows of different groups independent"
        if self.kind != "HAC":
            return f"sandwich {self.kind}, rows independent"
        how = (
            "lags by Andrews' rule, prewhitened" if self.maxlags is None else f"{self.maxlags} lags"
        )
        count = 1 if self.trials is None else self.trials.max() + 1
        return (
            f"sandwich HAC, Bartlett kernel, {how}; rows in the order of time, "
            f"{count} trial{'s' if count > 1 else ''}, rows left out counted as time"
        )


def asked(robust, groups, trials, maxlags, weight, X=None) -> Sandwich | None:
    """Return the sandwich that arguments of ``summary`` ask for; None for errors from the information.

    Parameters
    ----------
    weight : array (samples, 1) or (samples, neurons)
        Zero for rows that are not used.
    X : optional
        Features, whose epochs are the trials where none are told.

    Raises
    ------
    ValueError
        If one is unknown, missing, goes with another kind, or does not fit the rows.
    """
    n_samples = len(weight)
    kinds = (False, True, *HETEROSCEDASTIC, "cluster", *CLUSTER, "HAC")
    robust = bool(robust) if isinstance(robust, np.bool_) else robust
    if not is_one_of(robust, kinds):
        raise ValueError(f"`robust` must be one of {kinds}, but {robust!r} was given.")
    kind, indexed = _BEST.get(robust, robust), time_indexed(X)
    if trials is None and kind == "HAC" and indexed is not None:
        trials = epochs(indexed)
    if (groups is not None) != (kind in CLUSTER):
        raise ValueError(
            "`robust='cluster'` needs `groups`, the label of the group of each row."
            if groups is None
            else f"`groups` go with `robust='cluster'`, but `robust={robust!r}` was given."
        )
    for name, value in (("trials", trials), ("maxlags", maxlags)):
        if value is not None and kind != "HAC":
            raise ValueError(
                f"`{name}` goes with `robust='HAC'`, but `robust={robust!r}` was given."
            )
    if maxlags is not None:
        integer = isinstance(maxlags, (int, np.integer)) and not isinstance(maxlags, bool)
        if not integer or not 0 <= maxlags < n_samples:
            raise ValueError(
                f"`maxlags` must be an integer from 0 to {n_samples - 1} (rows less one), or None for Andrews' rule, "
                f"but {maxlags!r} was given."
            )
    groups = None if groups is None else _labels(groups, "groups", n_samples)
    trials = None if trials is None else _runs(_labels(trials, "trials", n_samples))
    if kind is False:
        return None
    sandwich = Sandwich(kind, groups, trials, maxlags)
    _check_rows(sandwich, weight)
    return sandwich


def _labels(values, name: str, n_samples: int) -> np.ndarray:
    """Return an index for each label, -1 for a missing one."""
    import pandas as pd  # late, as everywhere

    values = np.asarray(values)
    if values.shape != (n_samples,):
        raise ValueError(
            f"`{name}` must have one label for each row, shape {(n_samples,)}, but has shape {values.shape}."
        )
    return pd.factorize(values)[0]


def _runs(trials):
    ends = np.flatnonzero(np.diff(trials))
    if (trials < 0).any() or len(ends) > trials.max():
        raise ValueError(
            "`trials` must label stretches of consecutive rows, in the order of time, but "
            + (
                "some labels are missing."
                if (trials < 0).any()
                else "the rows of a trial are not consecutive."
            )
        )
    return trials


def _check_rows(sandwich: Sandwich, weight) -> None:
    """Raise a ValueError if rows that count have no group, or weights have no place in time."""
    used = (weight > 0).any(axis=1)
    if sandwich.groups is not None:
        missing = np.flatnonzero(used & (sandwich.groups < 0))
        if len(missing):
            raise ValueError(
                f"`groups` must have a label for each row that counts, but row {missing[0]} has none. Give it a label "
                "or a weight of zero."
            )
        if len(np.unique(sandwich.groups[used])) < 2:
            raise ValueError(
                "`robust='cluster'` needs rows of two groups at least, but there is one."
            )
    if sandwich.kind == "HAC" and not np.isin(weight, (0, 1)).all():
        raise ValueError(
            "`robust='HAC'` takes each row as a moment in time, which happens once: `sample_weight` must be 0 or 1. "
            "Use `robust='cluster'`, with groups of rows that depend on each other."
        )


class Pieces(NamedTuple):
    """Neurons at the fit: what influences are made of."""

    hessian: np.ndarray  # (neurons, size, size) in the coordinates of the sampler
    covariance: np.ndarray  # its inverse
    to_theta: np.ndarray  # (size, classes * (features + 1))
    mask: np.ndarray  # (neurons, classes, features + 1)
    X: np.ndarray | None = None  # (samples, features + 1), the last one for the intercept
    weight: np.ndarray | None = None  # (neurons, samples)
    slope: np.ndarray | None = (
        None  # (neurons, classes, samples): of the energy of one copy of a row, by the predictor
    )
    bend: np.ndarray | None = None  # (neurons, classes, classes, samples): the second derivative


def pieces(family, lanes, hessian, covariance) -> Pieces:
    """Return what does not need the rows, neuron by neuron."""
    n_features, classes = np.shape(lanes.mask)[-1], family.classes
    at = _coordinates(family, n_features)
    alone = family._replace(responses=1)
    basis = _target.split(alone, np.eye(at.shape[1]), n_features)
    columns, ends = _target.to_columns(alone, *basis[:2])
    to_theta = np.concatenate([columns, ends[..., None]], axis=-1).reshape(at.shape[1], -1)
    mask = np.asarray(lanes.mask).reshape(-1, classes, n_features)
    mask = np.concatenate([mask, np.ones((*mask.shape[:2], 1), bool)], axis=2)
    block = lambda a: a[:, at[:, :, None], at[:, None]].reshape(-1, *at.shape[1:] * 2)  # noqa: E731
    return Pieces(block(hessian), block(covariance), to_theta, mask)


def with_rows(
    given: Pieces, sandwich: Sandwich, family, shared, lanes, theta, some: slice
) -> Pieces:
    """Return the pieces of some lanes with what the rows say at the fit, `theta` (lanes, columns, features + 1)."""
    many, X, classes = len(theta), np.asarray(shared.X), family.classes
    lanes = jax.tree.map(lambda a: a[some] if len(a) == many else a, lanes)
    theta = theta[some]
    neurons = slice(some.start * family.responses, some.stop * family.responses)
    eta = np.einsum("lcf,nf->lcn", theta[..., :-1], X) + theta[..., -1:]
    if lanes.offset is not None:
        eta = eta + lanes.offset
    weight = np.broadcast_to(lanes.weight, lanes.y.shape)
    eta = np.where(np.repeat(weight > 0, classes, axis=1), eta, 1.0)
    bends = sandwich.kind in ("HC2", "HC3", "CR3")
    slope, bend = _derivatives(family, eta, lanes.y, lanes.log_scale, bends)
    weight = weight.reshape(-1, len(X))
    alive = weight[:, None] > 0
    slope = np.where(alive, np.asarray(slope).reshape(len(weight), classes, -1), 0.0)
    if bends:
        bend = np.moveaxis(np.asarray(bend).reshape(classes, *slope.shape), 0, 2)
        bend = np.where(alive[:, None], bend, 0.0)
    X = np.column_stack([X, np.ones(len(X))])
    own = {name: getattr(given, name)[neurons] for name in ("hessian", "covariance", "mask")}
    return given._replace(X=X, weight=weight, slope=slope, bend=bend, **own)


def _coordinates(family, n_features: int) -> np.ndarray:
    """Return which coordinates of a lane are those of each response, (responses, size)."""
    coef = np.arange(family.responses * family.coef_dims * n_features)
    ends = len(coef) + np.arange(family.responses * family.intercept_dims)
    return np.concatenate([a.reshape(family.responses, -1) for a in (coef, ends)], axis=1)


@partial(jax.jit, static_argnames=("family", "bends"))
def _derivatives(family, eta, y, log_phi, bends: bool):
    """Return first and second derivatives of the energies of rows by their predictors."""

    def slopes(eta):
        def total(eta, y, phi):
            return jnp.sum(_target.row_energies(family, y, eta, phi))

        return jax.vmap(jax.grad(total))(eta, y, log_phi)

    if not bends:
        return slopes(eta), None
    each = jnp.tile(jnp.eye(family.classes), family.responses)  # the same class of all responses
    along = jax.vmap(
        lambda e: jax.jvp(slopes, (eta,), (jnp.broadcast_to(e[:, None], eta.shape),))[1]
    )
    return slopes(eta), along(each)


class Spread(NamedTuple):
    """Variances of parameters and what they refer to, each (neurons, classes * (features + 1))."""

    variance: np.ndarray
    dof: np.ndarray  # of Student's t; infinite for the normal distribution
    maxlags: np.ndarray | None = None


def spread(sandwich: Sandwich, given: Pieces, n, dof, family, shared, lanes, theta) -> Spread:
    """Return sandwich variances.

    Parameters
    ----------
    n, dof : arrays (neurons,)
        Sum of the weights, and residual degrees of freedom.
    theta : array (lanes, columns, features + 1)
        The fit.

    Returns
    -------
    : Spread
        NaN for neurons in which a row, or a group, decides a parameter alone.
    """
    found, many, each = [], len(theta), family.responses
    bytes_each = 8 * (1 + family.classes) * theta.shape[1] * len(shared.X)
    size = int(np.clip(_BYTES // bytes_each, 1, many))
    for begin in range(0, many, size):
        some = slice(begin, min(begin + size, many))
        part = with_rows(given, sandwich, family, shared, lanes, theta, some)
        first, last = some.start * each, some.stop * each
        found += [_one(sandwich, part, k - first, n[k], dof[k]) for k in range(first, last)]
    return Spread(
        *(None if part[0] is None else np.stack(part) for part in zip(*found, strict=True))
    )


def _one(sandwich: Sandwich, given: Pieces, k: int, n: float, dof: float) -> Spread:
    """Return the sandwich variances of one neuron, each (classes * (features + 1),)."""
    kind, weight = sandwich.kind, given.weight[k]
    slope = given.slope[k].T
    few = n / dof if dof > 0 else np.nan
    if kind in ("HC2", "HC3"):
        slope = _without_itself(given, k, slope, 0.5 if kind == "HC2" else 1.0)
    score = _scores(given, k, slope)
    every = lambda value: np.full(given.to_theta.shape[1], value)  # noqa: E731
    influence = score @ (given.covariance[k] @ given.to_theta)
    if kind in HETEROSCEDASTIC:
        variance = weight @ np.square(influence)
        return Spread(variance * (few if kind == "HC1" else 1.0), every(np.inf))
    if kind == "HAC":
        return _serial.spread(influence, weight > 0, sandwich.trials, sandwich.maxlags, few)
    used = weight > 0
    names, group = np.unique(sandwich.groups[used], return_inverse=True)
    count = len(names)
    if count < 2:
        return Spread(every(np.nan), every(np.nan))
    order = np.argsort(group, kind="stable")
    rows = np.split(np.flatnonzero(used)[order], np.cumsum(np.bincount(group))[:-1])
    if kind == "CR1":
        moved = np.stack([weight[some] @ influence[some] for some in rows])
        factor = count / (count - 1.0) * (n - 1.0) / dof if dof > 0 else np.nan
    else:
        moved, factor = _without_groups(given, k, score, rows), (count - 1.0) / count
    return Spread(factor * np.square(moved).sum(axis=0), every(count - 1.0))


def _scores(given: Pieces, k: int, slope) -> np.ndarray:
    """Return the scores of one copy of each row, (samples, size)."""
    each = slope[:, :, None] * given.X[:, None] * given.mask[k]
    return each.reshape(len(each), -1) @ given.to_theta.T


def _without_itself(given: Pieces, k: int, slope, power: float):
    """Return slopes over a power of one minus the leverage of one copy of the row; NaN where that is nothing.

    With a power of one, the influence of a row is what leaving one copy out moves, but for the curvature's change.
    """
    theta = given.to_theta.T @ given.covariance[k] @ given.to_theta
    theta = theta * np.outer(given.mask[k], given.mask[k])
    size, width = given.slope.shape[1], given.X.shape[1]
    theta = theta.reshape(size, width, size, width)
    variance = np.empty((len(slope), size, size))  # of the predictors
    for a in range(size):
        for b in range(size):
            variance[:, a, b] = np.sum((given.X @ theta[a, :, b]) * given.X, axis=1)
    left = np.eye(size) - np.moveaxis(given.bend[k], -1, 0) @ variance
    used = given.weight[k] > 0
    if size == 1:
        rest = np.where(used, left[:, 0, 0], 1.0)
        rest = np.where(rest > _ALONE, rest, np.nan)
        return slope / rest[:, None] ** power
    left[~used] = np.eye(size)
    if not np.isfinite(left).all():
        return np.full(slope.shape, np.nan)
    values, vectors = np.linalg.eig(left)
    values = np.where(values.real > _ALONE, values.real, np.nan)
    turned = np.linalg.solve(vectors, slope[..., None].astype(vectors.dtype))
    return (vectors @ (turned / values[..., None] ** power))[..., 0].real


def _without_groups(given: Pieces, k: int, score, rows):
    """Return what leaving out each group moves the parameters by, in one step of Newton's method."""
    weight = given.weight[k]
    scores = np.stack([weight[some] @ score[some] for some in rows])
    rest = np.stack([given.hessian[k] - _curvature(given, k, some) for some in rows])
    root, least = _laplace.invert(rest)
    moved = root @ (np.swapaxes(root, -1, -2) @ scores[..., None])
    moved[least <= _ALONE] = np.nan
    return moved[..., 0] @ given.to_theta


def _curvature(given: Pieces, k: int, rows) -> np.ndarray:
    """Return what some rows contribute to the curvature, (size, size)."""
    X, bend = given.X[rows], given.weight[k, rows] * given.bend[k][..., rows]
    size, width = len(bend), X.shape[1]
    theta = np.empty((size, width, size, width))
    for a in range(size):
        for b in range(size):
            theta[a, :, b] = (X * bend[a, b][:, None]).T @ X
    theta = theta.reshape(size * width, -1) * np.outer(given.mask[k], given.mask[k])
    return given.to_theta @ theta @ given.to_theta.T


def undefined(sandwich: Sandwich) -> str:
    """Return why errors may not exist, and what to do."""
    if sandwich.kind in ("HC2", "HC3"):
        return f"a row alone decides a parameter, so that {sandwich.kind} errors do not exist. Use `robust='HC1'`."
    if sandwich.kind == "CR3":
        return (
            "rows of one group only, or a group that alone decides a parameter, so that CR3 errors do not exist. "
            "Leave out parameters of single groups, or use `robust='CR1'`."
        )
    return f"too few rows or groups for {sandwich.kind} errors."


def all_words(sandwich: Any) -> str:
    """Return what errors come from, in words."""
    return "observed information" if sandwich is None else sandwich.words()
