r"""Batch size and step of SVRG, from theory, for Poisson observations with a softplus link.

The per-sample loss :math:`f_i(w) = s(x_i w) - y_i \log s(x_i w)`, with s the softplus, has a second
derivative in the linear predictor of at most :math:`c_i = 0.17 y_i + 0.25`. Hence :math:`f_i` is
:math:`c_i \|x_i\|^2`-smooth, and the mean loss is smooth with the largest eigenvalue of
:math:`X^\top \text{diag}(c) X / n`. From these two numbers follow the batch size and the step that
minimise the bound on the number of gradients to a given accuracy.

References
----------
Sebbouh, Gazagnadou, Jelassi, Bach, Gower (2019), Towards closing the gap between the theory and
practice of SVRG. arXiv:1908.02725, doi:10.48550/arXiv.1908.02725
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesglm._design import pieces

__all__ = ["batch_size_and_stepsize", "optimal_batch_size", "optimal_stepsize"]

DEFAULT_BATCH_SIZE = 1
DEFAULT_STEPSIZE = 1e-3

# -(log softplus)'' stays below 0.1682, softplus'' below 1/4.
_LOG_SOFTPLUS_CURVATURE = 0.17
_SOFTPLUS_CURVATURE = 0.25

_MAX_POWER_ITERATIONS = 20
_BLOCK_ENTRIES = 1 << 18


def batch_size_and_stepsize(
    X: NDArray,
    y: ArrayLike,
    strong_convexity: float | None = None,
    batch_size: int | None = None,
    stepsize: float | None = None,
) -> tuple[int, float]:
    """Return the batch size and the step for SVRG on these data.

    Parameters
    ----------
    X : (samples, features)
        Finite. Read in blocks of rows, never copied.
    y : (samples,) or (samples, neurons)
    strong_convexity : scalar, optional
        Strong convexity of the objective: the strength of a Ridge penalty, else None.
    batch_size, stepsize : optional
        Kept if given.

    Returns
    -------
    batch_size : int
    stepsize : float

    Warns
    -----
    UserWarning
        If theory has no usable answer (a single sample, X all zero): the defaults 1 and 1e-3 stand
        in for it.
    """
    if batch_size is not None and stepsize is not None:
        return batch_size, stepsize
    n_samples = len(X)
    smoothness, max_smoothness = smoothness_constants(X, curvature_bounds(y))
    best_size = batch_size
    if batch_size is None:
        best_size = optimal_batch_size(n_samples, max_smoothness, smoothness, strong_convexity)
    best_step = stepsize
    if stepsize is None:
        best_step = optimal_stepsize(n_samples, max_smoothness, smoothness, best_size)
    if _is_usable(best_size) and _is_usable(best_step):
        return best_size, best_step
    # What the caller gave is kept here too.
    fallback = (
        DEFAULT_BATCH_SIZE if batch_size is None else batch_size,
        DEFAULT_STEPSIZE if stepsize is None else stepsize,
    )
    warnings.warn(
        f"The theory of SVRG gave batch size {best_size} and step {best_step} for these data, "
        f"which cannot be used; continuing with {fallback[0]} and {fallback[1]}. Set `batch_size` "
        "and `stepsize` in `solver_kwargs` to choose them yourself.",
        UserWarning,
        stacklevel=2,
    )
    return fallback


def curvature_bounds(y: ArrayLike) -> NDArray:
    """Return per sample the bound on the loss's second derivative in the linear predictor.

    Parameters
    ----------
    y : (samples,) or (samples, neurons)
        The largest count of a sample decides: its neurons share batches and step.

    Returns
    -------
    (samples,)
    """
    y = np.asarray(y)
    largest = y if y.ndim == 1 else y.max(axis=1)
    return _LOG_SOFTPLUS_CURVATURE * largest + _SOFTPLUS_CURVATURE


def smoothness_constants(X: NDArray, curvature: NDArray) -> tuple[float, float]:
    """Return the smoothness of the mean loss, and the largest one of a single sample's loss.

    Parameters
    ----------
    X : (samples, features)
    curvature : (samples,)
        Bounds on second derivatives, from `curvature_bounds`.

    Returns
    -------
    smoothness : float
        Largest eigenvalue of ``X.T @ diag(curvature) @ X / samples``, by at most 20 power
        iterations, hence approached from below.
    max_smoothness : float
        Largest ``curvature[i] * norm(X[i])**2``.
    """
    norms = [np.einsum("ij,ij->i", block, block) for _, block in _row_blocks(X)]
    per_sample = curvature * np.concatenate(norms) if norms else np.zeros(1)
    hardest = int(np.argmax(per_sample))
    max_smoothness = float(per_sample[hardest])
    smoothness = _largest_eigenvalue(X, curvature, np.ones(X.shape[1]))
    if smoothness == 0 and max_smoothness > 0:
        # Rows that sum to zero (contrasts, centred features) hide everything from the ones vector.
        smoothness = _largest_eigenvalue(
            X, curvature, np.asarray(X[hardest : hardest + 1], dtype=float)[0]
        )
    return smoothness, max_smoothness


def optimal_batch_size(
    n_samples: int, l_max: float, l_mean: float, strong_convexity: float | None = None
) -> int | float:
    """Return the batch size with the fewest gradient evaluations to a given accuracy.

    Parameters
    ----------
    n_samples : int
    l_max : float
        Largest smoothness of a single sample's loss.
    l_mean : float
        Smoothness of the mean loss.
    strong_convexity : float, optional
        Without it, single samples are best.

    Returns
    -------
    int, or NaN where the constants contradict each other (``l_mean > l_max``)
        Between 1 and `n_samples`.

    References
    ----------
    arXiv:1908.02725, for inner loops of n / b steps.
    """
    n, mu = n_samples, strong_convexity
    if mu is None or n * mu >= 3 * l_max:
        return 1
    size = float(n)
    if 3 * l_max < n * l_mean:
        size = _unconstrained_batch_size(n, l_max, l_mean)
    if n * mu > l_mean:
        size = np.minimum(size, _strongly_convex_batch_size(n, l_max, l_mean, mu))
    # In exact arithmetic both formulae are at least 1; the clip is for rounding.
    return int(np.clip(np.floor(size), 1, n)) if np.isfinite(size) and size > 0 else np.nan


def optimal_stepsize(n_samples: int, l_max: float, l_mean: float, batch_size: int) -> float:
    """Return the largest step that theory allows with batches of that size.

    It is 1 / (2 (E + 2 R)), with the smoothness that a random batch is expected to have,
    E = (n (b - 1) l_mean + (n - b) l_max) / (b (n - 1)), and the noise R = (n - b) l_max /
    (b (n - 1)).

    Parameters
    ----------
    n_samples : int
    l_max : float
        Largest smoothness of a single sample's loss.
    l_mean : float
        Smoothness of the mean loss.
    batch_size : int

    Returns
    -------
    float
        NaN or infinite for a single sample or without curvature.
    """
    n, b = n_samples, batch_size
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(0.5 * b * (n - 1)) / (3 * (n - b) * l_max + n * (b - 1) * l_mean))


def _unconstrained_batch_size(n: int, l_max: float, l_mean: float) -> float:
    """Return the b that minimises the total cost where the step, not convexity, limits it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt(np.float64(n / 2 * (3 * l_max - l_mean)) / (n * l_mean - 3 * l_max)))


def _strongly_convex_batch_size(n: int, l_max: float, l_mean: float, mu: float) -> float:
    """Return the b above which strong convexity no longer pays for larger batches."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(
            np.float64((3 * l_max - l_mean) * n) / (n * (n - 1) * mu - n * l_mean + 3 * l_max)
        )


def _largest_eigenvalue(X: NDArray, curvature: NDArray, start: NDArray) -> float:
    """Return the largest eigenvalue of the weighted second-moment matrix by power iteration."""
    vector = start
    for _ in range(_MAX_POWER_ITERATIONS):
        product = _weighted_moment_product(X, curvature, vector)
        largest = product[np.argmax(np.abs(product))]
        if largest == 0 or not np.isfinite(largest):
            return float(np.abs(largest))
        previous, vector = vector, product / largest
        if np.allclose(vector, previous):
            break
    product = _weighted_moment_product(X, curvature, vector)
    return float(vector @ product / (vector @ vector))


def _weighted_moment_product(X: NDArray, curvature: NDArray, vector: NDArray) -> NDArray:
    """Return ``X.T @ (curvature * (X @ vector)) / samples``, X read once."""
    total = np.zeros(len(vector))
    for rows, block in _row_blocks(X):
        total += (curvature[rows] * (block @ vector)) @ block
    return total / len(X)


def _row_blocks(X: NDArray) -> Iterator[tuple[slice, NDArray]]:
    """Yield blocks of rows in float64; only one block at a time is ever converted, and one piece of a file read."""
    step = max(1, _BLOCK_ENTRIES // max(1, X.shape[1]))
    for piece in pieces(X):
        some = X[piece]
        for start in range(0, len(some), step):
            block = np.asarray(some[start : start + step], dtype=np.float64)
            yield slice(piece.start + start, piece.start + start + len(block)), block


def _is_usable(value: float) -> bool:
    return bool(np.isfinite(value) and value > 0)
