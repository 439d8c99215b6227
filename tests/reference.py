"""Penalised GLMs by the book: losses, derivatives and optima in NumPy, sharing no line with the package.

A problem has C columns of coefficients (one; for a softmax one per class). Its parameters `theta` are
(features + 1, C), the intercepts last, in coordinates where the features are centred: the intercepts
then hardly depend on the coefficients, which keeps Newton's method accurate for any means of the features.
"""

import jax
import numpy as np
from scipy.special import expit, log_expit, log_ndtr, log_softmax, logsumexp, ndtr

NB_SCALE = 1.0  # dispersion of NegativeBinomial, the default

#: Mean, and its first two derivatives in the linear predictor.
LINKS = {
    "exp": lambda eta: (np.exp(eta),) * 3,
    "softplus": lambda eta: (np.logaddexp(0, eta), expit(eta), expit(eta) * expit(-eta)),
    "identity": lambda eta: (eta, np.ones_like(eta), np.zeros_like(eta)),
    "one_over_x": lambda eta: (1 / eta, -1 / eta**2, 2 / eta**3),
    "logistic": lambda eta: (
        expit(eta),
        expit(eta) * expit(-eta),
        expit(eta) * expit(-eta) * (1 - 2 * expit(eta)),
    ),
    "norm_cdf": lambda eta: (ndtr(eta), _normal(eta), -eta * _normal(eta)),
}


def _normal(eta):
    return np.exp(-0.5 * eta**2) / np.sqrt(2 * np.pi)


#: Documented loss, and its first two derivatives in the mean.
LOSSES = {
    "Poisson": lambda y, m: (m - y * np.log(m), 1 - y / m, y / m**2),
    "Gamma": lambda y, m: (y / m + np.log(m), (m - y) / m**2, (2 * y - m) / m**3),
    "Gaussian": lambda y, m: ((y - m) ** 2, 2 * (m - y), 2 * np.ones_like(m)),
    "NegativeBinomial": lambda y, m: (
        (y + 1 / NB_SCALE) * np.log1p(NB_SCALE * m) - y * np.log(m),
        (y + 1 / NB_SCALE) * NB_SCALE / (1 + NB_SCALE * m) - y / m,
        y / m**2 - (y + 1 / NB_SCALE) * (NB_SCALE / (1 + NB_SCALE * m)) ** 2,
    ),
}


def _normal_hazard(z):
    return np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(z))


#: Loss of the margin z (the predictor, with its sign turned where the response is 0), and its first two derivatives:
#: the textbook's loss of the mean has none of them where that rounds to 0 or 1.
MARGINS = {
    "logistic": lambda z: (-log_expit(z), -expit(-z), expit(z) * expit(-z)),
    "norm_cdf": lambda z: (
        -log_ndtr(z),
        -_normal_hazard(z),
        np.maximum(_normal_hazard(z) * (_normal_hazard(z) + z), 0),
    ),
}


class Penalty:
    """Documented penalties of coefficients (features, C) in the form l2/2 w^2 + l1 |w| + sum_g s_g |w_g|.

    Parameters
    ----------
    groups : list of bool arrays (features, C), optional
        By default one for each column.
    """

    def __init__(self, kind, strength, shape, groups=None):
        self.l2, self.l1, self.groups = np.zeros(shape), np.zeros(shape), []
        if kind == "Ridge":
            self.l2 += strength
        elif kind == "Lasso":
            self.l1 += strength
        elif kind == "ElasticNet":
            strength, ratio = strength
            self.l1 += np.multiply(strength, ratio)
            self.l2 += np.multiply(strength, 1 - np.asarray(ratio))
        elif kind == "GroupLasso":
            if groups is None:
                groups = [
                    np.broadcast_to(column, shape).astype(bool) for column in np.eye(shape[1])
                ]
            self.groups = [(g, strength * np.sqrt(g.sum())) for g in groups]

    def value(self, w):
        norms = sum(s * np.linalg.norm(w[g]) for g, s in self.groups)
        return np.sum(self.l2 / 2 * w**2 + self.l1 * np.abs(w)) + norms

    def derivatives(self, w):
        """Gradient and Hessian where the penalty is smooth; kinks contribute nothing."""
        gradient = self.l2 * w + self.l1 * np.sign(w)
        hessian = np.diag(self.l2.ravel())
        for g, s in self.groups:
            norm = np.linalg.norm(w[g])
            if norm > 0:
                unit = np.where(g, w, 0).ravel() / norm
                gradient = gradient + s * unit.reshape(w.shape)
                hessian += s / norm * (np.diag(g.ravel().astype(float)) - np.outer(unit, unit))
        return gradient, hessian

    def support(self, w, below):
        """Coefficients that do not sit on a kink; those smaller than `below` do."""
        active = (np.abs(w) > below) | (self.l1 == 0)
        for g, _ in self.groups:
            active[g] = np.linalg.norm(w[g]) > below
        return active

    def excess_at_kinks(self, gradient, active):
        """Largest amount by which a slope leaves the subdifferential at a kink."""
        single = (~active) & (self.l1 > 0)
        excess = [np.abs(gradient[single]) - self.l1[single]]
        excess += [[np.linalg.norm(gradient[g]) - s] for g, s in self.groups if not active[g].any()]
        return max(np.concatenate(excess), default=0.0)


class Problem:
    """Mean loss plus penalty of one response, or of class indices with the link "softmax"."""

    def __init__(self, family, link, X, y, kind="UnRegularized", strength=None, n_classes=1, *,
                 weight=None, offset=0.0, groups=None):  # fmt: skip
        X, y = np.asarray(X, dtype=float), np.asarray(y)
        self.mean = X.mean(axis=0)
        self.X = np.column_stack([X - self.mean, np.ones(len(X))])
        self.y = y if n_classes == 1 else np.eye(n_classes)[y]
        self.trials = np.ones(len(X))
        if family == "Binomial":  # successes and failures
            self.trials = self.y.sum(axis=1)
            self.y = self.y[:, 0] / self.trials
        self.family, self.link, self.C = family, link, n_classes
        weight = np.ones(len(X)) if weight is None else weight
        self.n, self.weight, self.offset = (
            weight.sum(),
            weight / weight.sum(),
            np.reshape(offset, (-1, 1)),
        )
        self.penalty = Penalty(kind, strength, (X.shape[1], n_classes), groups)

    def theta(self, coef, intercept):
        """Parameters in the usual coordinates -> centred ones."""
        coef, intercept = np.reshape(coef, (-1, self.C)), np.reshape(intercept, (1, self.C))
        return np.concatenate([coef, intercept + self.mean @ coef])

    def params(self, theta):
        """Centred coordinates -> coefficients (features, C) and intercepts (C,)."""
        return theta[:-1], theta[-1] - self.mean @ theta[:-1]

    def _losses(self, eta):
        """Loss (rows,), slope (rows, C) and curvature (rows, C, C) of each row."""
        if self.C > 1:
            p = np.exp(log_softmax(eta, axis=1))
            loss = logsumexp(eta, axis=1) - np.sum(self.y * eta, axis=1)
            curvature = p[:, :, None] * np.eye(self.C) - p[:, :, None] * p[:, None, :]
            return loss, p - self.y, curvature
        if self.family in ("Bernoulli", "Binomial"):
            both = []
            for sign, count in ((1, self.trials * self.y), (-1, self.trials * (1 - self.y))):
                loss, slope, curvature = MARGINS[self.link](sign * eta[:, 0])
                both.append((count * loss, count * sign * slope, count * curvature))
            loss, slope, curvature = (a + b for a, b in zip(*both, strict=True))
            return loss, slope[:, None], curvature[:, None, None]
        mean, d_mean, dd_mean = LINKS[self.link](eta[:, 0])
        with np.errstate(invalid="ignore", divide="ignore"):
            loss, slope, curvature = LOSSES[self.family](self.y, mean)
        curvature = curvature * d_mean**2 + slope * dd_mean
        return loss, (slope * d_mean)[:, None], curvature[:, None, None]

    def value(self, theta):
        loss = self._losses(self.X @ theta + self.offset)[0]
        return self.weight @ loss + self.penalty.value(theta[:-1])

    def loss_derivatives(self, theta):
        """Gradient (features + 1, C) and Hessian (square) of the mean loss."""
        _, slope, curvature = self._losses(self.X @ theta + self.offset)
        gradient = self.X.T @ (self.weight[:, None] * slope)
        size = theta.size
        hessian = np.einsum(
            "i,ij,ikl,im->jkml", self.weight, self.X, curvature, self.X, optimize=True
        )
        return gradient, hessian.reshape(size, size)

    def derivatives(self, theta):
        """Gradient and Hessian of the whole objective away from kinks."""
        gradient, hessian = self.loss_derivatives(theta)
        g, h = self.penalty.derivatives(theta[:-1])
        gradient[:-1] += g
        hessian[: g.size, : g.size] += h
        return gradient, hessian

    def residual_distance(self, theta):
        """Estimated distance of parameters from the next stationary point in standard errors: Newton's decrement.

        The dispersion is that of the residuals, and at most 1 for Gamma, whose residuals are relative.
        """
        eta = (self.X @ theta + self.offset)[:, 0]
        free = np.ones(theta.shape, bool)
        free[:-1] = self.penalty.support(theta[:-1], 0.0)
        decrement = _newton_step(*self.derivatives(theta), free)[1]
        kappa = 1.0
        if self.family in ("Gaussian", "Gamma"):
            mean = LINKS[self.link](eta)[0]
            residual = (
                self.y - mean if self.family == "Gaussian" else np.minimum(self.y / mean - 1, 1)
            )
            kappa = (0.5 if self.family == "Gaussian" else 1.0) / (self.weight @ residual**2)
        return np.sqrt(self.n * kappa * decrement)

    def start(self, intercept):
        """Zero coefficients and the given predictor."""
        return np.concatenate(
            [np.zeros((self.X.shape[1] - 1, self.C)), np.full((1, self.C), intercept)]
        )

    def stationary_point(self, theta, below=1e-7):
        """Newton's method from `theta` among the coefficients off the kinks, and the proof of where it ends.

        Raises
        ------
        AssertionError
            If the point found is not stationary: slopes remain, or a coefficient wants to leave its kink.
        """
        free = np.ones(theta.shape, bool)
        free[:-1] = self.penalty.support(theta[:-1], below)
        theta = np.where(free, theta, 0.0)
        for _ in range(100):
            gradient, hessian = self.derivatives(theta)
            step, decrement = _newton_step(gradient, hessian, free)
            length = 1.0
            # Rounding of the value: no increase that small is one.
            limit = self.value(theta) + 1e-14 * max(1.0, abs(self.value(theta)))
            while not self.value(theta + length * step) <= limit:
                length /= 2
                assert length > 1e-12, "no descent along Newton's step"
            theta = theta + length * step
            if self.n * decrement < 1e-24:
                break
        gradient, hessian = self.derivatives(theta)
        # What is left, in standard errors (up to the dispersion), is rounding.
        assert self.n * _newton_step(gradient, hessian, free)[1] < 1e-18
        loss_gradient = self.loss_derivatives(theta)[0][:-1] + self.penalty.l2 * theta[:-1]
        scale = np.sqrt(np.maximum(np.diag(hessian), 0).max())
        assert self.penalty.excess_at_kinks(loss_gradient, free[:-1]) <= 1e-10 * scale
        return theta

    def distance(self, theta, optimum, dispersion=1.0):
        """Distance of parameters from the optimum in standard errors."""
        d = (theta - optimum).ravel()
        hessian = self.derivatives(optimum)[1]
        kappa = {"Gaussian": 0.5, "Gamma": 1.0}.get(self.family, 1.0) / dispersion
        return np.sqrt(max(self.n * kappa * d @ hessian @ d, 0.0))


def _newton_step(gradient, hessian, free):
    """Newton's step among free parameters and twice the decrease it promises; flat directions are left out."""
    f = free.ravel()
    g, h = gradient.ravel()[f], hessian[np.ix_(f, f)]
    scale = np.sqrt(np.maximum(np.diag(h), 1e-300))
    values, vectors = np.linalg.eigh(h / np.outer(scale, scale))
    curved = values > 1e-11
    components = vectors[:, curved].T @ (g / scale)
    step = np.zeros(free.size)
    step[f] = -(vectors[:, curved] @ (components / values[curved])) / scale
    return step.reshape(free.shape), float(np.sum(components**2 / values[curved]))


def fitted(model):
    """Coefficients and intercepts of an estimator as float64 arrays, one array for a tree."""
    with jax.enable_x64(True):
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(model.coef_)]
        return np.concatenate(leaves), np.asarray(model.intercept_)
