"""Normal priors along the features: smooth filters, Gaussian processes, and any other precision."""

from __future__ import annotations

import math

import numpy as np

from bayesglm import prior
from bayesglm._input import did_you_mean
from bayesglm.prior import Precision
from bayesglm.regularizer._absolute import numeric
from bayesglm.regularizer._base import Regularizer


class _Structured(Regularizer):
    """A precision along the features of each leaf, which are independent of one another."""

    def precision_of(self, n_features: int) -> Precision:
        """Return the precision of so many features, at a strength of one."""
        raise NotImplementedError

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return a normal term for each leaf."""
        values = broadcast(strength)
        return tuple(
            prior.Gaussian(self.precision_of(rows.stop - rows.start), values[rows], features=rows)
            for rows in leaf_slices
        )


class Smooth(_Structured):
    r"""Penalty ``strength / 2 * sum(diff(coef, order)**2)`` along the features of each leaf: a normal prior.

    Where `strength` grows, coefficients become a polynomial of degree ``order - 1``, which the prior leaves free. With
    a basis of B-splines these are P-splines; on bins of time or space, a smooth filter.

    The features of a basis of B-splines sum to a constant: to add the same number to all coefficients is then to move
    the intercept, and neither data nor prior tell them apart. Where features sum to a constant, coefficients that are
    all in use therefore get a proper prior along that direction, with a mode at a mean of zero. Predictions, their
    uncertainty and the smooth part do not depend on it; the intercept becomes the value of the predictor at the mean
    coefficient. (Wood 2017, section 5.4.1, lets the sum over rows vanish. That of coefficients needs no data.)

    Parameters
    ----------
    order : int
        Of the differences: 1 is for a level, 2 for a line.
    periodic : bool, or tuple of bool
        Whether the last feature is a neighbour of the first; one for each axis of `shape`.
    shape : tuple of int, optional
        Of features that lie on a grid, the last axis fastest, such as (time, space): the penalty is the sum of those
        along each axis.

    References
    ----------
    Eilers, Marx (1996). doi:10.1214/ss/1038425655; Wood (2017), Generalized Additive Models. doi:10.1201/9781315370279
    """

    def __init__(self, order=2, periodic=False, shape=None):
        self.order, self.periodic, self.shape = order, periodic, shape

    def precision_of(self, n_features):
        """Return the precision of so many features, at a strength of one.

        Raises
        ------
        TypeError, ValueError
            If `order`, `periodic` or `shape` do not fit.
        """
        if not _is_count(self.order):
            raise ValueError(
                f"`order` of Smooth must be a positive integer, but {self.order!r} was given."
            )
        sizes = self._sizes(n_features)
        each = [
            _differences(size, self.order, *rest)
            for size, *rest in zip(sizes, self._periods(sizes), strict=True)
        ]
        return each[0] if len(each) == 1 else prior.Kronecker(*each)

    def _sizes(self, n_features: int) -> tuple[int, ...]:
        if self.shape is None:
            return (n_features,)
        shape = tuple(np.atleast_1d(np.asarray(self.shape, dtype=object)))
        if not shape or not all(map(_is_count, shape)):
            raise ValueError(
                f"`shape` of Smooth must be a tuple of positive integers, but {self.shape!r} was given."
            )
        if math.prod(shape) != n_features:
            raise ValueError(
                f"`shape` of Smooth is {self.shape}, which is a grid of {math.prod(shape)}, but there are {n_features} "
                "features."
            )
        return tuple(map(int, shape))

    def _periods(self, sizes) -> tuple[bool, ...]:
        given = self.periodic
        each = (given,) * len(sizes) if isinstance(given, (bool, np.bool_)) else given
        fits = isinstance(each, (tuple, list)) and len(each) == len(sizes)
        if not fits or not all(isinstance(one, (bool, np.bool_)) for one in each):
            raise ValueError(
                f"`periodic` of Smooth must be True or False, or one of these for each of {len(sizes)} axes, but "
                f"{given!r} was given."
            )
        return tuple(map(bool, each))


class GaussianProcess(_Structured):
    r"""Gaussian process prior along the features of each leaf.

    .. math:: w \sim N(0, K / (n \kappa\, strength)), \quad K_{ij} = k(x_i, x_j) + 10^{-6}\, [i = j]

    With a distance of :math:`r`, features divided by `lengthscale`, the kernels are

    - ``"squared_exponential"``: :math:`\exp(-r^2 / 2)`. With a length for each dimension this is automatic smoothness
      determination, ASD (Sahani, Linden 2002);
    - ``"matern32"``: :math:`(1 + \sqrt 3 r) \exp(-\sqrt 3 r)`;
    - ``"matern52"``: :math:`(1 + \sqrt 5 r + 5 r^2 / 3) \exp(-\sqrt 5 r)`;
    - ``"periodic"``: :math:`\exp(-2 \sum_d \sin^2(\pi |x_d - x'_d| / period) / \ell_d^2)`.

    The last summand of K gives each coefficient a thousandth of the prior's standard deviation on its own: smooth
    kernels are singular to rounding otherwise, and so the condition number is at most a million times the number of
    features.

    Parameters
    ----------
    kernel : str
        One of those.
    coordinates : array (features,) or (features, dimensions), optional
        Where features lie; 0, 1, 2, ... by default.
    lengthscale : number, or array (dimensions,)
        In units of the coordinates; without one for the periodic kernel.
    period : number, or array (dimensions,), optional
        Of the periodic kernel.

    References
    ----------
    Rasmussen, Williams (2006), Gaussian Processes for Machine Learning, chapter 4. doi:10.7551/mitpress/3206.001.0001;
    Sahani, Linden (2002), Evidence optimization techniques for estimating stimulus-response functions, NIPS 15.
    """

    def __init__(
        self, kernel="squared_exponential", coordinates=None, lengthscale=1.0, period=None
    ):
        self.kernel, self.coordinates, self.lengthscale, self.period = (
            kernel,
            coordinates,
            lengthscale,
            period,
        )

    def precision_of(self, n_features):
        """Return the precision of so many features, at a strength of one.

        Raises
        ------
        TypeError, ValueError
            If the kernel is unknown, or its parameters do not fit the features.
        """
        covariance = self.covariance(n_features)
        inverse = np.linalg.inv(covariance)
        return prior.Dense(0.5 * (inverse + inverse.T))

    def covariance(self, n_features: int) -> np.ndarray:
        """Return K, (features, features)."""
        if self.kernel not in _KERNELS:
            raise ValueError(
                f"Unknown kernel {self.kernel!r}. Known: {', '.join(_KERNELS)}.{did_you_mean(self.kernel, _KERNELS)}"
            )
        x = self._places(n_features)
        lengths = self._positive("lengthscale", x.shape[1])
        apart = x[:, None] - x[None]
        if self.kernel == "periodic":
            if self.period is None:
                raise ValueError(
                    "The periodic kernel needs a `period`, in units of the coordinates."
                )
            apart = 2.0 * np.sin(np.pi * apart / self._positive("period", x.shape[1]))
        distance = np.sqrt(np.sum(np.square(apart / lengths), axis=-1))
        return _KERNELS[self.kernel](distance) + _JITTER * np.eye(n_features)

    def _places(self, n_features: int) -> np.ndarray:
        if self.coordinates is None:
            return np.arange(float(n_features))[:, None]
        x = numeric(self.coordinates, "coordinates", self)
        if x.ndim not in (1, 2) or len(x) != n_features:
            raise ValueError(
                f"`coordinates` of GaussianProcess has shape {x.shape}, but there are {n_features} features: expected "
                f"({n_features},) or ({n_features}, dimensions)."
            )
        return x.reshape(n_features, -1)

    def _positive(self, name: str, dimensions: int) -> np.ndarray:
        value = numeric(getattr(self, name), name, self)
        if value.shape not in ((), (dimensions,)) or not (value > 0).all():
            raise ValueError(
                f"`{name}` of GaussianProcess must be a positive number, or one for each of {dimensions} dimensions, "
                f"but {getattr(self, name)!r} was given."
            )
        return value


class Quadratic(_Structured):
    """Penalty ``strength / 2 * coef @ precision @ coef``: a normal prior with any precision.

    It is flat on the null space of the precision, which data must determine; features that sum to a constant are
    treated as :class:`Smooth` does.

    Parameters
    ----------
    precision : array (features, features)
        Symmetric, without negative eigenvalues.
    """

    def __init__(self, precision):
        self.precision = precision

    @property
    def precision(self):
        """The precision, as given."""
        return self._precision

    @precision.setter
    def precision(self, value):
        self._operator = prior.Dense(numeric(value, "precision", self))
        self._precision = value

    def precision_of(self, n_features):
        """Return the precision.

        Raises
        ------
        ValueError
            If it is of other features.
        """
        if self._operator.size != n_features:
            raise ValueError(
                f"The precision of Quadratic has {self._operator.size} rows, but there are {n_features} features."
            )
        return self._operator


# Variance of each feature on its own, in units of that of the process.
_JITTER = 1e-6
_KERNELS = {
    "squared_exponential": lambda r: np.exp(-0.5 * np.square(r)),
    "matern32": lambda r: (1.0 + math.sqrt(3.0) * r) * np.exp(-math.sqrt(3.0) * r),
    "matern52": lambda r: (
        (1.0 + math.sqrt(5.0) * r + 5.0 / 3.0 * np.square(r)) * np.exp(-math.sqrt(5.0) * r)
    ),
    "periodic": lambda r: np.exp(-0.5 * np.square(r)),
}


def _is_count(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0


def _differences(size: int, order: int, periodic: bool) -> Precision:
    """Return the sum of squared differences of neighbours as a precision."""
    if size <= order:
        raise ValueError(
            f"Smooth has differences of order {order}, which need at least {order + 1} features along an axis, but "
            f"there are {size}."
        )
    if periodic:
        step = np.roll(np.eye(size), -1, axis=0) - np.eye(size)
        rows = np.linalg.matrix_power(step, order)
        return prior.Dense(rows.T @ rows)
    rows = np.diff(np.eye(size), order, axis=0)
    matrix = rows.T @ rows
    return prior.Banded([np.append(np.diagonal(matrix, -k), np.zeros(k)) for k in range(order + 1)])


__all__ = ["GaussianProcess", "Quadratic", "Smooth"]
