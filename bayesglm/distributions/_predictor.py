"""What the likelihoods of all families have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro.distributions import Distribution, TransformedDistribution
from numpyro.distributions.transforms import Transform

from bayesglm.links import log_mean


class Parameter(NamedTuple):
    """What a family has beside its predictor: a positive number, the `scale` of its distribution, by its own name.

    Parameters
    ----------
    name : str
        Of its draws, of its site in the NumPyro model and, with an underscore, of its attribute.
    prior : callable
        From the standard deviation of the response to a weak prior of `scale`, or None where it has none.
    power : int
        `scale` is in units of this power of those of the response.
    shown : Transform, optional
        From `scale` to the parameter as a user sees it, increasing; its codomain is the support. By default it is
        `scale` itself.
    """

    name: str = "scale"
    prior: Callable[[Any], Distribution | None] = lambda spread: None
    power: int = 0
    shown: Transform | None = None

    def site(self, prior: Distribution) -> Distribution:
        """Return the distribution of the parameter where `scale` has a prior."""
        return prior if self.shown is None else TransformedDistribution(prior, self.shown)

    def of_scale(self, scale) -> np.ndarray:
        """Return the parameter as a user sees it."""
        scale = np.asarray(scale, float)
        if self.shown is None:
            return scale
        with jax.enable_x64(True):
            return np.asarray(self.shown(jnp.asarray(scale)))

    def to_scale(self, value):
        """Return `scale` where a user sees `value`, which JAX may trace."""
        return value if self.shown is None else self.shown.inv(value)

    def log_slope(self, scale):
        """Return the logarithm of the derivative of the parameter in `scale`, which JAX may trace."""
        return (
            0.0 if self.shown is None else self.shown.log_abs_det_jacobian(scale, self.shown(scale))
        )


class PredictorDistribution(Distribution):
    r"""Distribution of a response given its linear predictor.

    The log-density is written as

    .. math:: \log p(y) = -\kappa(\phi)\, \ell(y, \eta) + c(y, \phi),

    where :math:`\ell` (:meth:`loss`) is what point estimation minimises, so that estimator and model
    cannot drift apart.

    Parameters
    ----------
    eta : array
        Linear predictor.
    inverse_link
        Maps `eta` to the mean of the response (to log-probabilities for a categorical one).
    scale : array, broadcastable to `eta`
        Dispersion :math:`\phi` of the family.
    """

    pytree_data_fields = ("eta", "scale")
    pytree_aux_fields = ("inverse_link",)
    #: Whether :meth:`squared_residual` is in units of the squared mean.
    relative_residual = False
    #: Whether responses are class labels.
    labels = False

    def __init__(self, eta, inverse_link: Callable, scale=1.0, *, validate_args=None):
        self.eta = jnp.asarray(eta, jnp.result_type(eta, float))
        self.inverse_link = inverse_link
        self.scale = jnp.asarray(scale, dtype=self.eta.dtype)
        shape = lax.broadcast_shapes(self.eta.shape, self.scale.shape)
        super().__init__(batch_shape=self._batch(shape), validate_args=validate_args)

    @staticmethod
    def _batch(shape):
        return shape

    @property
    def mean(self):
        """Mean of the response."""
        return self.inverse_link(self.eta)

    @property
    def kappa(self):
        """Factor between :meth:`loss` and the negative log-density."""
        return 1.0

    def loss(self, value):
        """Return the dispersion-free loss of each response (up to terms without `eta`)."""
        raise NotImplementedError

    def log_base(self, value):
        """Return the part of the log-density that does not depend on `eta`."""
        raise NotImplementedError

    def squared_residual(self, value):
        """Return the squared Pearson residual at unit scale; None if the dispersion is not free."""

    # What is known of responses in closed form, in NumPy: it is asked for at every row and draw.

    @staticmethod
    def variance_of(mean, scale):
        """Return the variance of responses with the given means."""
        raise NotImplementedError

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return the excess kurtosis of responses with the given means."""
        raise NotImplementedError

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return the probability of a response of at most `value`, which lies in the support."""
        raise NotImplementedError

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw responses with a NumPy generator."""
        raise NotImplementedError

    #: What the family has beside the predictor, which is `scale`.
    parameter = Parameter()

    @staticmethod
    def stand_ins(y, weight):
        """Return few responses and weights, (neurons, values), that have the sum of :meth:`log_base` of many.

        Parameters
        ----------
        y, weight : arrays (samples, neurons)
        """
        return y.T, weight.T

    def log_prob(self, value):
        """Return the log-density of each response."""
        return self.log_base(value) - self.kappa * self.loss(value)

    def log_mean(self):
        """Return the logarithm of the mean."""
        return log_mean(self.inverse_link, self.eta)
