"""What the curvature at the mode says of each lane: how well directions are known, and what the prior contributes.

References
----------
Belsley, Kuh, Welsch (1980), Regression Diagnostics. doi:10.1002/0471725153
"""

from __future__ import annotations

import numpy as np

from bayesglm import prior
from bayesglm._sampling import _laplace, _target
from bayesglm._sampling._target import Family, Lane, Shared
from bayesglm.rows import gram

# Features that are named, and the variance inflation from which they are worth it.
_NAMED, _INFLATED = 3, 5.0


def look(family: Family, shared: Shared, lanes: Lane, hessian, whiten, names):
    """Return what :class:`bayesglm.diagnostics.Curvature` holds, for each lane.

    Parameters
    ----------
    hessian, whiten : arrays (lanes, size, size)
        The curvature at the mode, and a root of its inverse.
    names : list of str
        Of the features.
    """
    found, used = _prior(family, lanes, whiten)
    condition, inflation = _collinearity(hessian, used.shape[1], used)
    count = np.maximum(used.sum(axis=1), 1)
    share = np.sum(np.where(used, found.share, 0.0), axis=1) / count
    ends = [_extreme(found.sd, np.fmin), _extreme(found.sd, np.fmax)]
    named = [_named(each, names) for each in inflation]
    error = predictor_error(family, shared.X, whiten, np.asarray(lanes.weight).mean(axis=1))
    return found.flat.any(axis=1), error, condition, named, share, *ends


def predictor_error(family: Family, X, whiten, weight=None) -> np.ndarray:
    """Return the largest standard error of the predictor per standard deviation of the features, (lanes,).

    Parameters
    ----------
    whiten : array (lanes, size, size)
        Root of the covariance of each lane.
    weight : array (lanes or 1, rows), optional
        How often each row counts.
    """
    if family.coef_dims != family.intercept_dims:
        return np.zeros(len(whiten))
    coef, intercept, _ = _target.split(family, np.swapaxes(whiten, 1, 2), X.shape[1])
    # (lanes, size, responses, dims, features + 1)
    both = np.concatenate([coef, intercept[..., None]], axis=-1)
    # one for all lanes, or one for each
    values, vectors = np.linalg.eigh(gram(X, weight).reshape(-1, *both.shape[-1:] * 2))
    roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    found = np.empty(len(whiten))
    for lane in range(len(whiten)):
        seen = np.moveaxis(both[lane] @ roots[min(lane, len(roots) - 1)], 0, -2)
        found[lane] = np.linalg.norm(seen, 2, axis=(-2, -1)).max()
    return found


def _extreme(values, pick):
    return pick.reduce(values, axis=1) if values.shape[1] else np.full(len(values), np.nan)


def _prior(family: Family, lanes: Lane, whiten):
    """Return numbers of the priors in the coordinates of the coefficients, and which are in use, (lanes, size)."""
    curvature, mask = np.asarray(_laplace.prior_curvature(family, lanes)), np.asarray(lanes.mask)

    def by_class(a):
        # a prior that leaves a direction of the classes out is the same for all of them
        a = a.reshape(len(a), family.responses, family.classes, *a.shape[2:])
        return a[:, :, : family.coef_dims].reshape(-1, *a.shape[3:])

    used = by_class(mask)
    size = used.size // len(mask)
    factors = whiten[:, :size].reshape(*used.shape, -1)
    covariance = factors @ np.swapaxes(factors, -1, -2)
    found = prior.numbers(by_class(curvature), covariance, used)
    per_lane = lambda a: a.reshape(len(mask), size)  # noqa: E731
    return prior.Numbers(*map(per_lane, found)), per_lane(used)


def _collinearity(hessian, n_coef: int, used):
    """Return condition indices (lanes,), and variance inflations (lanes, coefficients) where the intercept is known."""
    condition, inflation = np.empty(len(hessian)), np.ones((len(hessian), n_coef))
    for lane, (matrix, inside) in enumerate(zip(hessian, used, strict=True)):
        coef, rest = np.flatnonzero(inside), np.arange(n_coef, len(matrix))
        if not len(coef) or not np.isfinite(matrix).all():
            condition[lane] = 1.0 if not len(coef) else np.nan
            continue
        cross = matrix[np.ix_(coef, rest)]
        left = (
            matrix[np.ix_(coef, coef)]
            - cross @ np.linalg.pinv(matrix[np.ix_(rest, rest)]) @ cross.T
        )
        scale = np.sqrt(np.maximum(np.diagonal(left), np.finfo(float).tiny))
        scaled = left / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
        least = np.finfo(float).eps * len(values) * values[-1]
        values = np.maximum(values, least)
        condition[lane] = np.sqrt(values[-1] / values[0])
        inflation[lane, coef] = np.sum(np.square(vectors) / values, axis=1)
    return condition, inflation


def _named(inflation, names) -> str:
    """Return the names of the features that others explain best."""
    by_feature = inflation.reshape(-1, len(names)).max(axis=0) if len(names) else inflation[:0]
    order = np.argsort(-by_feature, kind="stable")[:_NAMED]
    return ", ".join(str(names[k]) for k in order if by_feature[k] > _INFLATED)
