"""Priors that are given as such: their scale counts neither rows nor the dispersion, and takes no strength."""

from __future__ import annotations

import numpy as np

from bayesglm import prior
from bayesglm.regularizer._base import Regularizer


class _Absolute(Regularizer):
    @property
    def default_strength(self):
        """None: the scale says it all."""
        return None

    def check_strength(self, strength):
        """Return None.

        Raises
        ------
        ValueError
            If there is a strength.
        """
        if strength is not None:
            raise ValueError(
                f"{type(self).__name__} has no strength, which its `scale` says, but {strength!r} was given. Set "
                "`regularizer_strength=None` with it."
            )

    @property
    def scale(self):
        """Scale, as given."""
        return self._scale

    @scale.setter
    def scale(self, value):
        array = numeric(value, "scale", self)
        if not (array > 0).all():
            raise ValueError(
                f"`scale` of {type(self).__name__} must be positive, but {value!r} was given."
            )
        self._scale = value


class Normal(_Absolute):
    r"""Normal prior with a location and a standard deviation of each coefficient, whatever the data.

    .. math:: w_j \sim N(\mathrm{location}_j, \mathrm{scale}_j^2)

    It takes no strength. The penalty that it stands for is :math:`(w - m)^2 / (2 n \kappa s^2)`, which fades as rows
    come in; an unknown dispersion, which is part of :math:`\kappa`, is found in turn with the coefficients.

    Parameters
    ----------
    location, scale : number, array (features,), or in the shape of the coefficients
        Mean and standard deviation.
    """

    def __init__(self, location=0.0, scale=1.0):
        self.location, self.scale = location, scale

    @property
    def location(self):
        """Mean, as given."""
        return self._location

    @location.setter
    def location(self, value):
        numeric(value, "location", self)
        self._location = value

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the normal term."""
        location = _spread(self.location, mask.shape, broadcast)
        rate = 1.0 / np.square(_spread(self.scale, mask.shape, broadcast))
        return prior.Gaussian(None, rate, location if np.any(location) else None, unit="absolute")


class Laplace(_Absolute):
    r"""Laplace prior of each coefficient, whatever the data: :math:`p(w_j) = \exp(-|w_j| / s_j) / (2 s_j)`.

    It takes no strength; see :class:`Normal`.

    Parameters
    ----------
    scale : number, array (features,), or in the shape of the coefficients
        The mean absolute value s.
    """

    smooth = False

    def __init__(self, scale=1.0):
        self.scale = scale

    def terms(self, strength, mask, broadcast, leaf_slices):
        """Return the Laplace term."""
        return prior.Laplace(1.0 / _spread(self.scale, mask.shape, broadcast), unit="absolute")


def numeric(value, name: str, owner) -> np.ndarray:
    """Return parameters of a prior as a float array.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If one is not finite.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise TypeError
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` of {type(owner).__name__} must be a number or an array, but {value!r} was given."
        ) from error
    if not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` of {type(owner).__name__} must be finite, but {value!r} was given."
        )
    return array.astype(float)


def _spread(value, shape, broadcast) -> np.ndarray:
    """Return numbers for all coefficients, (features, *outputs), of which there may be one for each feature."""
    value = np.asarray(value, float)
    if value.shape == shape[:1]:
        return np.broadcast_to(value.reshape(-1, *(1,) * (len(shape) - 1)), shape)
    if value.ndim and value.shape != tuple(shape):
        raise ValueError(
            f"An array of shape {value.shape} was given for coefficients of shape {tuple(shape)}; expected a "
            f"number, or shape {tuple(shape[:1])} or {tuple(shape)}."
        )
    return np.broadcast_to(value, shape)
