"""Regularizers with structure, and of one's own, for each thing that a term can be; laws run over them too."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayesglm import prior
from bayesglm.regularizer import GaussianProcess, Laplace, Normal, Quadratic, Regularizer, Smooth


def differences(size, order):
    """Sum of squared differences of neighbours, as a matrix: singular, with polynomials as its null space."""
    D = np.diff(np.eye(size), order, axis=0)
    return D.T @ D


def bands(matrix, count):
    """The diagonal, and those below it."""
    rows = [np.append(np.diagonal(matrix, -k), np.zeros(k)) for k in range(count)]
    return np.stack(rows)


class Gains(prior.Separable):
    """Negative coefficients cost three times what positive ones do."""

    def penalty(self, coef, rate):
        return rate * (jnp.maximum(coef, 0.0) + 3.0 * jnp.maximum(-coef, 0.0))

    def shrunk(self, coef, rate):
        return jnp.maximum(coef - rate, 0.0) + jnp.minimum(coef + 3.0 * rate, 0.0)

    def density(self, rate):
        return dist.AsymmetricLaplace(0.0, 1.0 / (rate * np.sqrt(3.0)), 1.0 / np.sqrt(3.0))


class Own(Regularizer):
    """A function of strength and mask that gives terms."""

    def __init__(self, make, smooth=True):
        self.make, self.smooth = make, smooth

    def terms(self, strength, mask, broadcast, leaf_slices):
        return self.make(broadcast(strength), len(mask))


def full_rank(size):
    """A matrix that is far from diagonal, and positive definite."""
    return differences(size, 2) + 0.3 * np.eye(size)


def grid(size):
    """Differences along both axes of two rows (or of one, where the number is odd)."""
    rows = 2 if size % 2 == 0 else 1
    return prior.Kronecker(
        prior.Dense(differences(rows, 1) + 0.1 * np.eye(rows)),
        prior.Banded(bands(differences(size // rows, 1), min(2, size // rows))),
    )


#: Regularizer and strength; matrix of the quadratic part, or None.
OWN = {
    "dense": (Own(lambda s, p: prior.Gaussian(full_rank(p), s)), 0.1),
    "singular": (Own(lambda s, p: prior.Gaussian(differences(p, 2), s)), 0.1),
    "banded": (
        Own(lambda s, p: prior.Gaussian(prior.Banded(bands(full_rank(p), min(p, 3))), s)),
        0.1,
    ),
    "grid": (Own(lambda s, p: prior.Gaussian(grid(p), s)), 0.1),
    "weighted": (Own(lambda s, p: prior.Gaussian(prior.Diagonal(np.arange(1.0, 1 + p)), s)), 0.1),
    "absolute": (Own(lambda s, p: prior.Gaussian(full_rank(p), s, unit="absolute")), 3.0),
    "located": (Own(lambda s, p: prior.Gaussian(full_rank(p), s, location=0.2)), 0.1),
    "gains": (Own(lambda s, p: Gains(s), smooth=False), 0.03),
    "parts": (
        Own(
            lambda s, p: (
                prior.Laplace(0.3 * s[:1], features=[0]),
                prior.Gaussian(differences(p - 1, 1), s[1:], features=slice(1, p)),
            ),
            smooth=False,
        ),
        0.1,
    ),
    "smooth": (Smooth(), 0.1),
    "ring": (Smooth(2, periodic=True), 0.1),
    "image": (Smooth(1, periodic=(True, False), shape=(2, 2)), 0.1),
    "process": (GaussianProcess("matern32", lengthscale=1.5), 0.1),
    "quadratic": (Quadratic(full_rank(4)), 0.1),
    "normal": (Normal(0.2, 0.6), None),
    "absolute laplace": (Laplace(0.4), None),
}
#: Factor of the matrix or of the kink.
FACTOR = {name: 1.0 if strength is None else strength for name, (_, strength) in OWN.items()}
ABSOLUTE = ("absolute", "normal", "absolute laplace")
LOCATION = {"located": 0.2, "normal": 0.2}


def ring(size):
    """Squared second differences around a circle."""
    D = np.roll(np.eye(size), 1, 0) - 2.0 * np.eye(size) + np.roll(np.eye(size), -1, 0)
    return D.T @ D


def covariance(size):
    """Matern 3/2 with a length of 1.5."""
    r = np.sqrt(3.0) * np.abs(np.subtract.outer(np.arange(size), np.arange(size))) / 1.5
    return (1.0 + r) * np.exp(-r) + 1e-6 * np.eye(size)


MATRICES = {
    "dense": full_rank,
    "singular": lambda p: differences(p, 2),
    "banded": full_rank,
    "grid": lambda p: np.asarray(grid(p).dense()),
    "weighted": lambda p: np.diag(np.arange(1.0, 1 + p)),
    "absolute": full_rank,
    "located": full_rank,
    "smooth": lambda p: differences(p, 2),
    "ring": ring,
    "image": lambda p: np.array(  # a circle of two has each difference twice
        [[3, -1, -2, 0], [-1, 3, 0, -2], [-2, 0, 3, -1], [0, -2, -1, 3]], float
    ),
    "process": lambda p: np.linalg.inv(covariance(p)),
    "quadratic": full_rank,
    "normal": lambda p: np.eye(p) / 0.36,
}
PROPER = (
    "dense", "banded", "weighted", "absolute", "located", "gains", "process", "normal", "absolute laplace",
)  # fmt: skip


def penalty(name, strength, coef, used=None):
    """The penalty as a textbook has it, of coefficients (features,), those out of use being zero."""
    coef = np.asarray(coef, float)
    used = np.ones(len(coef), bool) if used is None else np.asarray(used, bool)
    if name == "absolute laplace":
        return np.sum(np.abs(coef)) / 0.4
    if name == "gains":
        return strength * np.sum(np.where(coef > 0, coef, -3.0 * coef))
    if name == "parts":
        return strength * (0.3 * abs(coef[0]) + 0.5 * np.sum(np.diff(coef[1:]) ** 2))
    off = np.where(used, coef - LOCATION.get(name, 0.0), 0.0)
    return 0.5 * strength * off @ MATRICES[name](len(coef)) @ off
