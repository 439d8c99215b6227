"""Predictors and sums in NumPy, which has nothing to compile: over the pieces in which a matrix is read."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._design import pieces, stretches

# Rows for each feature from which the rank of the features is found, unless they are close to singular there.
_RANK_ROWS = 20


def predictor(X, coef, intercept, offset=None):
    """Return the linear predictor (rows, *outputs) in the precision of the features, which JAX may trace.

    Parameters
    ----------
    coef, intercept : arrays (features, *outputs) and (*outputs)
    offset : optional
        Broadcastable to (rows, *outputs); the first outputs, such as draws, have no axis if they share it.
    """
    if isinstance(X, jax.Array):
        return _predictor(jnp, X, coef, intercept, offset)
    coef, intercept = (np.asarray(a).astype(X.dtype) for a in (coef, intercept))
    with np.errstate(invalid="ignore", over="ignore"):
        if isinstance(X, np.ndarray):
            return _predictor(np, X, coef, intercept, offset)
        eta = np.empty((len(X), *intercept.shape), X.dtype)
        for some in pieces(X):
            shift = None if offset is None else offset[some]
            eta[some] = _predictor(np, X[some], coef, intercept, shift)
        return eta


def _predictor(xp, X, coef, intercept, offset):
    eta = xp.tensordot(X, coef, 1) + intercept
    if offset is None:
        return eta
    between = (1,) * (eta.ndim - offset.ndim)
    return eta + offset.reshape(len(offset), *between, *offset.shape[1:])


def finite_rows(X) -> np.ndarray | None:
    """Return which rows are finite throughout, or None if all are."""
    some = pieces(X)
    found = [_finite_rows(X[rows]) for rows in some]
    if all(rows is None for rows in found):
        return None
    each = (np.ones(rows.stop - rows.start, bool) for rows in some)
    return np.concatenate([e if f is None else f for e, f in zip(each, found, strict=True)])


def _finite_rows(X: np.ndarray) -> np.ndarray | None:
    # One sum is several times faster than looking at each entry; it cannot be finite if an entry is not.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum(dtype=np.float64)):
            return None
    rows = np.isfinite(X).all(axis=1)
    return None if rows.all() else rows


def moments(X, weight) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (columns,) of the columns of X, a weight of two counting a row twice.

    Parameters
    ----------
    weight : array (rows, 1) or (rows, columns)
    """
    weight = np.broadcast_to(np.asarray(weight, float), X.shape)
    total = np.maximum(weight.sum(axis=0), np.finfo(float).tiny)
    some = pieces(X)
    mean = sum(np.sum(weight[rows] * X[rows], axis=0) for rows in some) / total
    square = sum(np.sum(weight[rows] * np.square(X[rows] - mean), axis=0) for rows in some)
    return mean, np.sqrt(square / total)


def gram(X, weight=None) -> np.ndarray:
    """Return the mean products of pairs of features, the last of which is one, (..., features + 1, features + 1).

    Parameters
    ----------
    weight : array (..., rows), optional
        How often each row counts.
    """
    X = np.asarray(X) if isinstance(X, jax.Array) else X  # whose slices would compile
    weight = np.ones(len(X)) if weight is None else weight
    found = 0.0
    for rows in pieces(X):
        Z = np.column_stack([np.asarray(X[rows], float), np.ones(rows.stop - rows.start)])
        each = weight[..., rows].reshape(-1, len(Z))
        found = found + np.stack([(Z.T * w) @ Z for w in each])
    found = found.reshape(*weight.shape[:-1], *found.shape[1:])
    return found / weight.sum(axis=-1)[..., None, None]


def triangle(X, change) -> np.ndarray:
    """Return R of the QR decomposition of what a function makes of pieces of X, given with their slices.

    R has the singular values of the whole, and its columns have the products of those of the whole.
    """
    found = None
    for rows in pieces(X):
        block = change(np.asarray(X[rows], float), rows)
        found = np.linalg.qr(block if found is None else np.concatenate([found, block]), mode="r")
    return found


def rank(X, columns) -> int:
    """Return the rank of some columns; from some of the rows if these suffice."""
    n_features = len(columns)
    if min(len(X), n_features) == 0:
        return 0
    some = stretches(len(X), _RANK_ROWS * X.shape[1])
    products = _products(X, columns, some)
    if not _regular(products) and len(some) > 1:
        products = _products(X, columns, pieces(X))
    if len(X) > n_features and _regular(products):
        return n_features
    values = np.linalg.svd(triangle(X, lambda block, _: block[:, columns]), compute_uv=False)
    return int(np.sum(values > values[0] * max(len(X), n_features) * np.finfo(X.dtype).eps))


def _products(X, columns, some) -> np.ndarray:
    blocks = (X[rows][:, columns].astype(np.float64, copy=False) for rows in some)
    return sum(block.T @ block for block in blocks)


def _regular(products) -> bool:
    diagonal = np.diag(products)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    return bool(np.linalg.eigvalsh(products / np.outer(scale, scale))[0] > 1e-9)
