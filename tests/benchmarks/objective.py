"""The one objective that all entries are judged by, and its optimum, in NumPy alone.

The objective of a response is its mean loss (Poisson with the exponential link, or softmax) plus a penalty of the
coefficients; the intercept is not penalised. Nothing here is shared with the package or with a peer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import brentq

BLOCK = 8192  # rows at a time, so that X may lie on disk and in any dtype


@dataclass(frozen=True)
class Problem:
    """Responses to be explained by the same features.

    Parameters
    ----------
    X : array (rows, features)
    y : array (rows, responses) of counts, or (rows, 1) of class indices where `n_classes` is given
    penalty
        ``"Ridge"``, ``"Lasso"`` or ``"GroupLasso"``.
    groups : tuple of index arrays
        The groups of features of ``"GroupLasso"``.
    """

    X: Any
    y: np.ndarray
    penalty: str
    strength: float
    groups: tuple = ()
    n_classes: int = 0

    @property
    def n_responses(self) -> int:
        """Number of independent problems."""
        return self.y.shape[1]

    @cached_property
    def columns(self) -> list[np.ndarray]:
        """Responses one by one, each contiguous in memory."""
        return [np.ascontiguousarray(column) for column in self.y.T]

    def subset(self, which) -> Problem:
        """Return the problem of some of the responses."""
        return replace(self, y=np.ascontiguousarray(self.y[:, which]))

    @cached_property
    def blocks(self) -> tuple:
        """Groups of coefficients that share a norm, and the weight of each norm."""
        if self.penalty == "GroupLasso":
            return tuple((np.asarray(g), self.strength * np.sqrt(len(g))) for g in self.groups)
        if self.penalty == "Lasso":
            return tuple((np.array([j]), self.strength) for j in range(self.X.shape[1]))
        return ()

    @property
    def l2(self) -> float:
        """Strength of the quadratic part."""
        return self.strength if self.penalty == "Ridge" else 0.0

    def penalty_of(self, coef) -> np.ndarray:
        """Return the penalties of the columns of `coef`; of a softmax, their sum."""
        value = self.l2 / 2 * np.sum(coef**2, axis=0)
        for group, weight in self.blocks:
            value = value + weight * np.linalg.norm(coef[group], axis=0)
        return value.sum(keepdims=True) if self.n_classes else value

    def value(self, coef, intercept) -> np.ndarray:
        """Return the objectives (responses,) at coefficients (features, columns)."""
        coef, intercept = np.asarray(coef, float), np.asarray(intercept, float)
        total = np.zeros(self.n_responses)
        for rows in _row_blocks(len(self.y)):
            eta = np.asarray(self.X[rows], float) @ coef + intercept
            total += (self._softmax_loss if self.n_classes else self._poisson_loss)(eta, rows)
        return total / len(self.y) + self.penalty_of(coef)

    def _poisson_loss(self, eta, rows):
        with np.errstate(over="ignore"):
            return np.sum(np.exp(eta) - self.y[rows] * eta, axis=0)

    def _softmax_loss(self, eta, rows):
        largest = eta.max(axis=1, keepdims=True)
        norm = np.log(np.exp(eta - largest).sum(axis=1)) + largest[:, 0]
        label = self.y[rows, 0].astype(int)
        return np.sum(norm - eta[np.arange(len(eta)), label], keepdims=True)


def gap(value, optimum) -> float:
    """Return the largest relative excess over the optimum; NaN marks responses that are not looked at."""
    known = ~np.isnan(optimum)
    excess = (np.asarray(value)[known] - optimum[known]) / np.abs(optimum[known])
    return float(np.max(np.where(np.isfinite(excess), excess, np.inf)))


def _row_blocks(n):
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def optimum(problem: Problem):
    """Return coefficients (features, columns), intercepts (columns,) and objectives (responses,) at the optimum."""
    if problem.n_classes:
        return _softmax_optimum(problem)
    found = [_poisson_optimum(problem, k) for k in range(problem.n_responses)]
    theta = np.stack(found, axis=1)
    return theta[:-1], theta[-1], problem.value(theta[:-1], theta[-1])


def _poisson_optimum(problem, k):
    """Newton's method, with an exact inner problem where the penalty has kinks."""
    one = replace(problem, y=np.ascontiguousarray(problem.y[:, [k]]))
    theta = np.zeros(problem.X.shape[1] + 1)
    theta[-1] = np.log(np.mean(one.y))
    value = float(one.value(theta[:-1, None], theta[-1:])[0])
    for _ in range(100):
        gradient, hessian = _poisson_derivatives(one, theta)
        step, promised = _newton_step(one, theta, gradient, hessian)
        theta, value, moved = _backtrack(one, theta, step, value)
        if promised <= 1e-12 * abs(value) or not moved:
            break
    if promised > 1e-10 * abs(value):
        raise ArithmeticError(f"The reference did not converge: {promised / abs(value):.1e} left.")
    return theta


def _poisson_derivatives(problem, theta):
    """Gradient (p + 1,) and Hessian of the mean loss, the intercept last."""
    size, n = len(theta), len(problem.y)
    gradient, hessian = np.zeros(size), np.zeros((size, size))
    for rows in _row_blocks(n):
        X = np.asarray(problem.X[rows], float)
        mean = np.exp(X @ theta[:-1] + theta[-1])
        residual = mean - problem.y[rows, 0]
        gradient[:-1] += residual @ X
        gradient[-1] += residual.sum()
        weighted = mean[:, None] * X
        hessian[:-1, :-1] += X.T @ weighted
        hessian[-1, :-1] += weighted.sum(axis=0)
        hessian[-1, -1] += mean.sum()
    hessian[:-1, -1] = hessian[-1, :-1]
    return gradient / n, hessian / n


def _newton_step(problem, theta, gradient, hessian):
    """Step to the minimum of the quadratic model plus penalty, and the decrease that it promises."""
    border, corner = hessian[-1, :-1], hessian[-1, -1]
    H = hessian[:-1, :-1] - np.outer(border, border) / corner
    g = gradient[:-1] - border * gradient[-1] / corner
    w = theta[:-1]
    if problem.blocks:
        new = _minimise_with_norms(H, g - H @ w, w, problem.blocks)
    else:
        new = np.linalg.solve(H + problem.l2 * np.eye(len(w)), H @ w - g)
    step = np.append(new - w, -(gradient[-1] + border @ (new - w)) / corner)
    model = gradient @ step + step @ hessian @ step / 2
    penalties = problem.penalty_of(np.stack([w, new], axis=1))
    return step, penalties[0] - penalties[1] - model


def _backtrack(problem, theta, step, value):
    length = 1.0
    while length > 1e-6:
        new = theta + length * step
        reached = float(problem.value(new[:-1, None], new[-1:])[0])
        if reached <= value:
            return new, reached, True
        length /= 2
    return theta, value, False


def _minimise_with_norms(H, b, w, blocks, sweeps=5000):
    """Minimise ``w'Hw/2 + b'w + sum of weighted norms`` by exact descent over blocks."""
    w, scale = w.copy(), np.sqrt(np.diag(H))
    factors = [np.linalg.eigh(H[np.ix_(group, group)]) for group, _ in blocks]
    for sweep in range(sweeps):
        largest = 0.0
        for (group, weight), (values, vectors) in zip(blocks, factors, strict=True):
            old = w[group]
            pull = vectors.T @ (H[group][:, group] @ old - H[group] @ w - b[group])
            w[group] = vectors @ _shrunk(values, pull, weight)
            largest = max(largest, np.max(scale[group] * np.abs(w[group] - old)))
        if largest <= 1e-14 * np.max(scale * np.abs(w), initial=1e-300):
            break
        exact = _on_support(H, b, w, blocks) if sweep % 10 == 9 else None
        if exact is not None:
            return exact
    return w


def _shrunk(values, pull, weight):
    """Minimise ``v' diag(values) v / 2 - pull'v + weight |v|``."""
    if np.linalg.norm(pull) <= weight:
        return np.zeros_like(pull)
    if len(pull) == 1:
        return np.sign(pull) * (np.abs(pull) - weight) / values
    values = np.maximum(values, 1e-14 * values.max())

    def excess(norm):
        return np.linalg.norm(pull / (values * norm + weight)) - 1

    largest = np.linalg.norm(pull) / values.min()
    norm = brentq(excess, 0.0, largest, xtol=1e-16 * largest, rtol=1e-14)
    return norm * pull / (values * norm + weight)


def _on_support(H, b, w, blocks):
    """Return the minimum with the signs of `w` where that is the solution; single coefficients only."""
    if len(blocks) < len(w):
        return None
    weight, sign = np.array([weight for _, weight in blocks]), np.sign(w)
    active = sign != 0
    new = np.zeros_like(w)
    new[active] = np.linalg.solve(H[np.ix_(active, active)], -(b + weight * sign)[active])
    slope = np.abs(H @ new + b)
    right = (np.sign(new) == sign).all() and (slope[~active] <= weight[~active]).all()
    return new if right else None


def _softmax_optimum(problem):
    """Newton's method on all classes at once, with intercepts that sum to zero."""
    n, p, C = len(problem.y), problem.X.shape[1], problem.n_classes
    X = np.column_stack([problem.X, np.ones(n)])
    target = np.eye(C)[problem.y[:, 0].astype(int)]
    ridge = np.append(np.full(p, problem.l2), 0.0)
    theta = np.zeros((p + 1, C))
    for _ in range(100):
        eta = X @ theta
        share = np.exp(eta - eta.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        gradient = X.T @ (share - target) / n + ridge[:, None] * theta
        hessian = _softmax_hessian(X, share, ridge)
        step = -np.linalg.solve(hessian, gradient.T.ravel()).reshape(C, p + 1).T
        value = problem.value(theta[:-1], theta[-1])
        length = 1.0
        while not problem.value(*_split(theta + length * step)) <= value and length > 1e-6:
            length /= 2
        theta = theta + length * step
        if -np.sum(gradient * step) <= 1e-13 * abs(value[0]):
            break
    return theta[:-1], theta[-1], problem.value(*_split(theta))


def _split(theta):
    return theta[:-1], theta[-1]


def _softmax_hessian(X, share, ridge):
    """Hessian (classes x (p + 1), square), with curvature along the flat shift of all intercepts."""
    n, C, q = len(X), share.shape[1], X.shape[1]
    hessian = np.zeros((C, q, C, q))
    for c in range(C):
        for d in range(c + 1):
            weight = share[:, c] * ((c == d) - share[:, d]) / n
            hessian[c, :, d] = hessian[d, :, c] = X.T @ (weight[:, None] * X)
        hessian[c, :, c] += np.diag(ridge)
    hessian[:, -1, :, -1] += 1.0 / C
    return hessian.reshape(C * q, C * q)
