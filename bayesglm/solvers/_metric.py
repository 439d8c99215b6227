"""The curvature of the loss as solvers use it: a positive definite matrix for each lane and column.

It serves as the initial inverse Hessian of quasi-Newton methods, as the metric of proximal ones, and to
express a gradient as a distance from the optimum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayesglm._objective import Gram, Objective
from bayesglm.solvers._shift import Shift, apart, by_class, classes_of, shift_of, times_inverse

# Above this number of features a matrix per lane no longer pays, and its diagonal is used instead.
DENSE_LIMIT = 1024
# Up to this one it does so even if there are fewer rows: a diagonal knows little of distances where features depend on
# one another, as they then do.
_ALWAYS_DENSE = 64

# Up to this number of columns (neurons times classes), a matrix of its own for each costs little more than one for all.
_FEW_COLUMNS = 8


class Metric(NamedTuple):
    """Approximate Hessian of loss plus quadratic penalty, in coordinates where the intercept decouples.

    With the intercept taken at the mean features, b' = b + mean . w, the Hessian is block diagonal:
    `hessian` for the coefficients, `total` for b'.
    """

    mean: Any  # (lanes, columns, features)
    total: Any  # (lanes, columns)
    # (lanes, columns, features, features); (lanes, columns, features) where diagonal; or one block
    # for all classes, (lanes, responses, classes * features, classes * features).
    hessian: Any
    # Of the Hessian scaled to unit diagonal; None where it is diagonal or joins classes.
    inverse: Any
    root: Any  # square root of the diagonal, (lanes, blocks, size of a block)
    shift: Shift | None = None  # where the loss has no curvature whatever `hessian` says

    @property
    def dense(self) -> bool:
        """Whether the Hessian is more than its diagonal."""
        return self.hessian.ndim == self.root.ndim + 1


def _build(gram: Gram, prior, mask, jitter, n_classes, invariant: bool) -> Metric:
    mean, total, centred = gram
    # The Hessian of a softmax is larger than its diagonal blocks on the zero-sum subspace; exact for two classes.
    factor = 1.0 if n_classes is None else n_classes / (n_classes - 1.0)
    dense = centred.ndim == 4
    shape = mean.shape
    mask = np.broadcast_to(mask, shape)
    l2 = prior.diagonal(shape)
    shift = shift_of(prior, mask, n_classes) if invariant else None
    total = factor * np.maximum(total, np.finfo(total.dtype).tiny)
    moments = np.diagonal(centred, axis1=-2, axis2=-1) if dense else centred
    # A column that is constant (or masked) has no say of its own; any positive number serves.
    varies = moments > 1e-14 * (moments + (total[..., None] / factor) * mean**2)
    use = mask & varies
    diagonal = np.where(use, factor * moments, 0.0) + l2
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    root = np.sqrt(diagonal)
    if not dense:
        return Metric(mean * mask, total, diagonal, None, root, shift)
    hessian = factor * centred * (use[..., :, None] & use[..., None, :])
    hessian = prior.add_coupling(hessian, mask)
    _set_diagonal(hessian, diagonal)
    unit = hessian / (root[..., :, None] * root[..., None, :])
    # The damping bounds steps along directions that the data do not determine.
    _set_diagonal(unit, 1.0 + jitter)
    return Metric(mean * mask, total, hessian, _inverse(unit, jitter), root, shift)


def _inverse(unit, least):
    """Invert matrices that rounding may have left indefinite, where few rows have all the curvature."""
    try:
        np.linalg.cholesky(unit)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(np.nan_to_num(unit))
        return (vectors / np.maximum(values, least)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return np.linalg.inv(unit)


def _set_diagonal(matrices, values):
    size = matrices.shape[-1]
    matrices.reshape(*matrices.shape[:-2], size * size)[..., :: size + 1] = values


def _build_joint(gram: Gram, prior, mask, n_classes: int) -> Metric:
    """Metric that is flat along shifts, as penalties with kinks need it.

    A kink may hold one class while the others shift; correlated features have different classes held.
    """
    mean, total, centred = (by_class(term, n_classes) for term in gram)
    lanes, responses, _, features = mean.shape
    factor = n_classes / (n_classes - 1.0)
    total = factor * np.maximum(total, np.finfo(total.dtype).tiny)
    mask = by_class(np.broadcast_to(mask, gram.mean.shape), n_classes)
    # About one mean for all classes, so that a shift does not change what is left of the predictor.
    middle = (total[..., None] * mean).sum(2, keepdims=True) / total.sum(2)[..., None, None]
    off = mean - middle
    centred = factor * centred + total[..., None, None] * off[..., :, None] * off[..., None, :]
    moments = np.diagonal(centred, axis1=-2, axis2=-1)
    use = mask & (moments > 1e-14 * (moments + total[..., None] * middle**2))
    centred = np.where(use[..., :, None] & use[..., None, :], centred, 0.0)
    free = mask.all(2).astype(mean.dtype)  # (lanes, responses, features)
    left, right = (free / n_classes)[..., :, None], (free / n_classes)[..., None, :]
    own = np.einsum("lrkij,km->lrkimj", centred, np.eye(n_classes))
    rows = (centred * right[:, :, None])[:, :, :, :, None, :]
    columns = np.moveaxis(centred * left[:, :, None], 2, 3)[:, :, None]
    both = (centred.sum(2) * left * right)[:, :, None, :, None, :]
    size = n_classes * features
    shape = (lanes, responses, size)
    hessian = (own - rows - columns + both).reshape(*shape, size)
    l2 = prior.diagonal(gram.mean.shape).reshape(shape)
    diagonal = np.diagonal(hessian, axis1=-2, axis2=-1) + l2
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    if prior.couples:
        _add_blocks(hessian, prior, mask)
    _set_diagonal(hessian, diagonal)
    mean = np.broadcast_to(middle, mask.shape).reshape(gram.mean.shape)
    mask = mask.reshape(gram.mean.shape)
    return Metric(mean * mask, total.reshape(gram.total.shape), hessian, None, np.sqrt(diagonal))


def _add_blocks(hessian, prior, mask) -> None:
    """Add the curvature of coupled priors to each class's block; `mask` (lanes, responses, classes, features)."""
    columns = mask.reshape(len(mask), -1, mask.shape[-1])
    each = prior.add_coupling(np.zeros((*columns.shape, columns.shape[-1])), columns)
    each = each.reshape(*mask.shape, mask.shape[-1])
    for k in range(mask.shape[2]):
        rows = slice(k * mask.shape[3], (k + 1) * mask.shape[3])
        hessian[..., rows, rows] += each[:, :, k]


def build(objective: Objective, gram: Gram) -> Metric:
    """Return the metric of the given second moments."""
    n_classes = classes_of(objective)
    if n_classes is not None and not objective.prior.smooth and gram.centred.ndim == 4:
        if n_classes * objective.n_features <= DENSE_LIMIT:
            return _build_joint(gram, objective.prior, objective.mask, n_classes)
    jitter = 1e-10 if objective.precision < 1e-10 else 1e-7
    terms = gram, objective.prior, objective.mask
    return _build(*terms, jitter, objective.spec.n_classes, n_classes is not None)


def metric_at(objective: Objective, theta, shared: bool, dense: bool | None = None) -> Metric:
    """Return the metric of the curvature at some parameters.

    Dense by default where the Hessian is small enough and can have full rank.
    """
    if dense is None:
        dense = _pays(objective)
    return build(objective, objective.gram(theta, shared, dense))


def _pays(objective: Objective) -> bool:
    """Return whether a matrix per lane is worth its cost."""
    if objective.prior.couples:  # which a diagonal would not know
        return objective.n_features <= DENSE_LIMIT
    return objective.n_features <= min(DENSE_LIMIT, max(objective.n_rows, _ALWAYS_DENSE))


def is_few(theta) -> bool:
    """Return whether a matrix for each column of coefficients is no great cost."""
    return len(theta) * theta.shape[1] <= _FEW_COLUMNS


def first_metric(objective: Objective, theta, pilot: Objective | None, dense=None) -> Metric:
    """Return the metric at the start of a run.

    Parameters
    ----------
    pilot
        Objective of some of the rows, whose optimum `theta` is; the curvature there serves for all rows.
    """
    few = is_few(theta)
    if pilot is None:
        return metric_at(objective, theta, not few, dense)
    if dense is None:
        dense = _pays(pilot)
    return build(objective, pilot.gram(theta, not few, dense))


def solve(metric: Metric, mask, gradient):
    """Return the inverse metric times a gradient (lanes, columns, features + 1)."""
    if metric.shift is None:
        return _solve_columns(metric, mask, gradient)
    common, rest = apart(metric.shift, gradient)
    _, own = apart(metric.shift, _solve_columns(metric, mask, rest))
    along = times_inverse(metric.shift, common).repeat(own.shape[1] // common.shape[1], 2)
    return own + along.reshape(own.shape)


def _solve_columns(metric: Metric, mask, gradient):
    """Return the inverse of the blocks of the metric times a gradient."""
    g, g_0 = gradient[..., :-1], gradient[..., -1]
    g = (g - metric.mean * g_0[..., None]) * mask
    if metric.inverse is None:
        coef = g / metric.hessian
    else:
        coef = times(metric.inverse, g / metric.root) / metric.root * mask
    intercept = g_0 / metric.total - np.sum(metric.mean * coef, axis=-1)
    return np.concatenate([coef, intercept[..., None]], axis=-1)


def times(matrix, vector):
    """Return the product of matrices and vectors."""
    return np.matmul(matrix, vector[..., None])[..., 0]


def multiply(metric: Metric, coef):
    """Return the coefficient block of the metric times `coef`."""
    if not metric.dense:
        return metric.hessian * coef
    return times(metric.hessian, coef.reshape(metric.root.shape)).reshape(coef.shape)


def curvature(metric: Metric, direction):
    """Return the curvature of each lane along a direction (lanes, columns, features + 1)."""
    coef, d_0 = direction[..., :-1], direction[..., -1]
    centred = d_0 + np.sum(metric.mean * coef, -1)
    return dot(coef, multiply(metric, coef)) + np.sum(metric.total * centred**2, -1)


def dot(a, b):
    """Inner product per lane of arrays (lanes, columns, parameters)."""
    return np.einsum("...cp,...cp->...", a, b)


def per_lane(lane_values):
    """Shape (lanes,) as (lanes, 1, 1)."""
    return lane_values[..., None, None]
