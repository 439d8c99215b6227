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

from bayesglm._design import Stored
from bayesglm._design import pieces as pieces_of
from bayesglm._input import epochs, is_one_of, time_indexed
from bayesglm._sampling import _laplace, _target
from bayesglm.glm import _serial
from bayesglm.rows import even, predictor

HETEROSCEDASTIC = ("HC0", "HC1", "HC2", "HC3")
CLUSTER = ("CR1", "CR3")
#: The kinds with the best coverage (``python -m tests.studies.coverage``).
_BEST = {True: "HC3", "cluster": "CR3"}
# One minus the leverage of a row, or what is left of the curvature, below which the row decides a parameter alone.
_ALONE = 1e-8
# Bytes of what is computed of the rows of a block, or of those of some neurons.
_BYTES = 1 << 27
_LEAST_ROWS = 64


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
    X: np.ndarray | None = None  # (rows, features + 1), the last one for the intercept
    weight: np.ndarray | None = None  # (neurons, rows)
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
    given: Pieces, sandwich: Sandwich, family, X, lanes, theta, some: slice, rows, trials=None
) -> Pieces:
    """Return the pieces of some lanes with what some rows say at the fit.

    Parameters
    ----------
    theta : array (lanes, columns, features + 1)
    rows : tuple
        Begin, end, and the first row that has not been seen before.
    trials : array (neurons, samples), optional
        By which the weights of the lanes are multiplied: a copy of a row is that of all its trials.
    """
    begin, end, new = rows
    neurons = slice(some.start * family.responses, some.stop * family.responses)
    own = {name: getattr(given, name)[neurons] for name in ("hessian", "covariance", "mask")}
    y, weight, offset = (_cut(a, len(theta), some, slice(begin, end)) for a in lanes[:3])
    weight = np.broadcast_to(weight * (np.arange(begin, end) >= new), y.shape)
    X, theta, classes = np.asarray(X[begin:end]), theta[some], family.classes
    offset = None if offset is None else np.moveaxis(offset, -1, 0)
    coef = np.moveaxis(theta[..., :-1], -1, 0)
    eta = np.moveaxis(predictor(X, coef, theta[..., -1], offset), 0, -1)
    eta = np.where(np.repeat(weight > 0, classes, axis=1), eta, 1.0)
    bends = sandwich.kind in ("HC2", "HC3", "CR3")
    slope, bend = _derivatives(family, eta, y, lanes.log_scale[some], bends)
    weight = weight.reshape(-1, len(X))
    alive = weight[:, None] > 0
    slope = np.where(alive, np.asarray(slope).reshape(len(weight), classes, -1), 0.0)
    if bends:
        bend = np.moveaxis(np.asarray(bend).reshape(classes, *slope.shape), 0, 2)
        bend = np.where(alive[:, None], bend, 0.0)
    if trials is not None:
        each = trials[neurons, begin:end]
        weight, slope = weight / each, slope * each[:, None]
        bend = None if bend is None else bend * each[:, None, None]
    X = np.column_stack([X, np.ones(len(X))])
    return given._replace(X=X, weight=weight, slope=slope, bend=bend, **own)


def _cut(array, many: int, some: slice, rows: slice):
    """Return some lanes and rows of an array that has an axis for each, or one lane for all."""
    if array is None:
        return None
    array = np.asarray(array)[..., rows]
    return array[some] if len(array) == many else array


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


class Variances(NamedTuple):
    """Variances of parameters and what they refer to, each (neurons, classes * (features + 1))."""

    variance: np.ndarray
    dof: np.ndarray  # of Student's t; infinite for the normal distribution
    maxlags: np.ndarray | None = None


def variances(
    sandwich: Sandwich, given: Pieces, n, dof, trials, family, shared, lanes, theta
) -> Variances:
    """Return sandwich variances.

    Parameters
    ----------
    n, dof : arrays (neurons,)
        Sum of the weights, and residual degrees of freedom.
    trials : array (neurons, samples), or None
        As :func:`with_rows` takes them.
    theta : array (lanes, columns, features + 1)
        The fit.

    Returns
    -------
    : Variances
        NaN for neurons in which a row, or a group, decides a parameter alone.
    """
    X = shared.X if isinstance(shared.X, Stored) else np.asarray(shared.X)
    found, many, each = [], len(theta), family.responses
    columns, width = theta.shape[1:]
    # the series of influences on a neuron is looked at as a whole
    series = 8 * len(X) * columns * width
    size = int(np.clip(_BYTES // series, 1, many)) if sandwich.kind == "HAC" else many
    of_row = 8 * columns * ((1 + family.classes) * size + 4 * width)
    blocks = min(-(-len(X) * of_row // _BYTES), len(X) // _LEAST_ROWS + 1)
    blocks = even(len(X), max(blocks, len(pieces_of(X))))
    for begin in range(0, many, size):
        some = slice(begin, min(begin + size, many))
        neurons = range(some.start * each, some.stop * each)
        sums = [None] * len(neurons)
        for rows in blocks:
            part = with_rows(given, sandwich, family, X, lanes, theta, some, rows, trials)
            for k in range(len(neurons)):
                sums[k] = _joined(sandwich, sums[k], _meat(sandwich, part, k, rows))
        found += [
            _of_sums(sandwich, given, k, *own, n[k], dof[k])
            for k, own in zip(neurons, sums, strict=True)
        ]
    return Variances(
        *(None if part[0] is None else np.stack(part) for part in zip(*found, strict=True))
    )


class Meat(NamedTuple):
    """What a block of rows adds to the sandwich of one neuron.

    Of independent rows, weighted squares of influences (parameters,). Of groups, sums of influences
    (groups, parameters), or of scores (groups, size). In time, the influences of all rows (rows, parameters).
    """

    value: np.ndarray
    used: np.ndarray  # which groups, or rows, count
    curvature: np.ndarray | None = None  # (groups, size, size)


def _joined(sandwich: Sandwich, one: Meat | None, other: Meat) -> Meat:
    if one is None:
        return other
    if sandwich.kind == "HAC":
        return Meat(*(np.concatenate(both) for both in zip(one[:2], other[:2], strict=True)))
    more = None if one.curvature is None else one.curvature + other.curvature
    return Meat(one.value + other.value, one.used | other.used, more)


def _meat(sandwich: Sandwich, part: Pieces, k: int, rows) -> Meat:
    """Return what some rows add to the sandwich of one neuron."""
    kind, weight, (begin, end, new) = sandwich.kind, part.weight[k], rows
    slope, used = part.slope[k].T, part.weight[k] > 0
    if kind in ("HC2", "HC3"):
        slope = _without_itself(part, k, slope, 0.5 if kind == "HC2" else 1.0)
    score = _scores(part, k, slope)
    if kind == "CR3":
        return _of_groups(part, k, weight[:, None] * score, sandwich.groups[begin:end], sandwich)
    influence = score @ (part.covariance[k] @ part.to_theta)
    if kind in HETEROSCEDASTIC:
        return Meat(weight @ np.square(influence), used.any(keepdims=True))
    if kind == "HAC":
        return Meat(influence[new - begin :], used[new - begin :])
    return _of_groups(part, k, weight[:, None] * influence, sandwich.groups[begin:end], sandwich)


def _of_groups(part: Pieces, k: int, values, group, sandwich: Sandwich) -> Meat:
    """Sum what rows have, (rows, ...), over the rows of each group."""
    many, counts = sandwich.groups.max() + 1, part.weight[k] > 0
    total, used = np.zeros((many, values.shape[1])), np.zeros(many, bool)
    order = np.flatnonzero(counts)[np.argsort(group[counts], kind="stable")]
    names, begins = np.unique(group[order], return_index=True)
    members = np.split(order, begins[1:]) if len(names) else []
    used[names] = True
    bent = sandwich.kind == "CR3"
    curvature = np.zeros((many, *part.hessian.shape[1:])) if bent else None
    for name, some in zip(names, members, strict=True):
        total[name] = values[some].sum(axis=0)
        if bent:
            curvature[name] = _curvature(part, k, some)
    return Meat(total, used, curvature)


def _of_sums(sandwich, given: Pieces, k: int, value, used, curvature, n: float, dof: float):
    """Return the sandwich variances of one neuron, each (classes * (features + 1),)."""
    kind = sandwich.kind
    few = n / dof if dof > 0 else np.nan
    every = lambda value: np.full(given.to_theta.shape[1], value)  # noqa: E731
    if kind in HETEROSCEDASTIC:
        return Variances(value * (few if kind == "HC1" else 1.0), every(np.inf))
    if kind == "HAC":
        return _serial.long_run_variances(value, used, sandwich.trials, sandwich.maxlags, few)
    count = np.count_nonzero(used)
    if count < 2:
        return Variances(every(np.nan), every(np.nan))
    if kind == "CR1":
        moved = value[used]
        factor = count / (count - 1.0) * (n - 1.0) / dof if dof > 0 else np.nan
    else:
        moved = _without_groups(given, k, value[used], curvature[used])
        factor = (count - 1.0) / count
    return Variances(factor * np.square(moved).sum(axis=0), every(count - 1.0))


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


def _without_groups(given: Pieces, k: int, scores, curvature):
    """Return what leaving out each group moves the parameters by, in one step of Newton's method."""
    root, least = _laplace.invert(given.hessian[k] - curvature)
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
