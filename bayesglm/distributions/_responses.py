r"""Likelihoods of a GLM as functions of the linear predictor, each with what is known of its responses.

NumPyro's own Poisson, Gamma and negative binomial take the mean, which loses the tails: a Poisson with ``eta = -800``
has a rate of exactly 0 and a log-density of ``-inf``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln
from numpyro import distributions as dist
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.transforms import PowerTransform
from numpyro.util import is_prng_key
from scipy import special

from bayesglm.distributions._priors import HalfStudentT
from bayesglm.links import log_complement, log_mean

# Distinct counts are padded to a power of this number, so that other data rarely need another program.
_TABLE = 4


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

    #: The dispersion is in units of this power of those of the response.
    scale_power = 0

    @staticmethod
    def scale_prior(spread) -> Distribution | None:
        """Return the weak prior of the dispersion, given the standard deviation of the response; None without one."""

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

    def _log_mean(self):
        return log_mean(self.inverse_link, self.eta)


class PoissonPredictor(PredictorDistribution):
    """Poisson counts with variance equal to the mean."""

    support = constraints.nonnegative_integer

    def loss(self, value):
        """Return ``mean - y log(mean)``."""
        return self.mean - value * self._log_mean()

    def log_base(self, value):
        """Return ``-log y!``."""
        return -gammaln(value + 1.0)

    def sample(self, key, sample_shape=()):
        """Draw counts."""
        assert is_prng_key(key)
        return jax.random.poisson(key, self.mean, shape=sample_shape + self.batch_shape)

    @staticmethod
    def variance_of(mean, scale):
        """Return the mean."""
        return mean

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return ``1 / mean``."""
        return 1.0 / mean

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return the regularised upper incomplete gamma function."""
        return special.pdtr(np.floor(value), mean)

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw counts."""
        return rng.poisson(mean)


class GammaPredictor(PredictorDistribution):
    """Gamma responses with mean `mu` and variance ``scale * mu**2``."""

    support = constraints.positive
    relative_residual = True

    @property
    def kappa(self):
        """``1 / scale``, the shape parameter."""
        return 1.0 / self.scale

    def loss(self, value):
        """Return ``y / mean + log(mean)``."""
        log = self._log_mean()
        return value * jnp.exp(-log) + log

    def log_base(self, value):
        """Return the normalisation for the shape ``1 / scale``."""
        shape = self.kappa
        return (shape - 1.0) * jnp.log(value) + shape * jnp.log(shape) - gammaln(shape)

    def squared_residual(self, value):
        """Return the squared relative residual."""
        return jnp.square(value * jnp.exp(-self._log_mean()) - 1.0)

    def sample(self, key, sample_shape=()):
        """Draw positive responses."""
        assert is_prng_key(key)
        shape = jnp.broadcast_to(self.kappa, sample_shape + self.batch_shape)
        return jax.random.gamma(key, shape) * self.mean * self.scale

    @staticmethod
    def variance_of(mean, scale):
        """Return ``scale * mean**2``."""
        return scale * mean**2

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return ``6 scale``."""
        return 6.0 * scale + 0.0 * mean

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return the regularised lower incomplete gamma function."""
        return special.gammainc(1.0 / scale, np.maximum(value, 0.0) / (scale * mean))

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw positive responses."""
        return rng.gamma(1.0 / scale, scale * mean)

    @staticmethod
    def scale_prior(spread):
        """Return that of ``1 / scale``, exponential with mean 1."""
        return dist.TransformedDistribution(dist.Exponential(1.0), PowerTransform(-1.0))

    @staticmethod
    def stand_ins(y, weight):
        """Return the geometric mean: the log-density is linear in the log of a response."""
        total = weight.sum(axis=0)
        logs = np.sum(weight * np.log(y), axis=0) / np.maximum(total, np.finfo(float).tiny)
        return np.exp(logs)[:, None], total[:, None]


class GaussianPredictor(PredictorDistribution):
    """Gaussian responses with variance ``scale``."""

    support = constraints.real

    @property
    def kappa(self):
        """``1 / (2 scale)``: the loss has no factor one half."""
        return 0.5 / self.scale

    def loss(self, value):
        """Return ``(y - mean)**2``."""
        return jnp.square(value - self.mean)

    def log_base(self, value):
        """Return ``-log(2 pi scale) / 2``."""
        return -0.5 * jnp.log(2.0 * jnp.pi * self.scale)

    def squared_residual(self, value):
        """Return the squared residual."""
        return self.loss(value)

    def sample(self, key, sample_shape=()):
        """Draw real responses."""
        assert is_prng_key(key)
        noise = jax.random.normal(key, sample_shape + self.batch_shape, self.eta.dtype)
        return self.mean + jnp.sqrt(self.scale) * noise

    @staticmethod
    def variance_of(mean, scale):
        """Return `scale`."""
        return scale + 0.0 * mean

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return zero."""
        return 0.0 * mean

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return the normal distribution function."""
        return special.ndtr((value - mean) / np.sqrt(scale))

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw real responses."""
        return rng.normal(mean, np.sqrt(scale))

    scale_power = 2

    @staticmethod
    def scale_prior(spread):
        """Return that of ``sqrt(scale)``, half a Student's t with 4 degrees of freedom; Gelman (2006).

        doi:10.1214/06-BA117A
        """
        return dist.TransformedDistribution(HalfStudentT(4.0, spread), PowerTransform(2.0))

    @staticmethod
    def stand_ins(y, weight):
        """Return one response: the log-density without the predictor does not involve any."""
        total = weight.sum(axis=0)[:, None]
        return np.ones(total.shape), total


class BernoulliPredictor(PredictorDistribution):
    """Binary responses."""

    support = constraints.boolean

    def loss(self, value):
        """Return the cross-entropy."""
        log_q = log_complement(self.inverse_link, self.eta)
        return -(value * self._log_mean() + (1.0 - value) * log_q)

    def log_base(self, value):
        """Return zero."""
        return jnp.zeros_like(self.eta)

    def sample(self, key, sample_shape=()):
        """Draw booleans."""
        assert is_prng_key(key)
        return jax.random.bernoulli(key, self.mean, sample_shape + self.batch_shape)

    @staticmethod
    def variance_of(mean, scale):
        """Return ``mean (1 - mean)``."""
        return mean * (1.0 - mean)

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return ``1 / (mean (1 - mean)) - 6``."""
        return 1.0 / (mean * (1.0 - mean)) - 6.0

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return the probability of a zero below one."""
        return np.where(value < 1, 1.0 - mean, 1.0)

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw booleans."""
        return rng.random(mean.shape) < mean


class NegativeBinomialPredictor(PredictorDistribution):
    """Counts with mean `mu` and variance ``mu + scale * mu**2``."""

    support = constraints.nonnegative_integer

    def loss(self, value):
        """Return ``(y + 1/scale) log(1 + scale mean) - y log(scale mean)``."""
        log_odds = jnp.log(self.scale) + self._log_mean()
        return (value + 1.0 / self.scale) * jax.nn.softplus(log_odds) - value * log_odds

    def log_base(self, value):
        """Return the log binomial coefficient."""
        size = 1.0 / self.scale
        return gammaln(value + size) - gammaln(value + 1.0) - gammaln(size)

    def sample(self, key, sample_shape=()):
        """Draw counts from the Gamma-Poisson mixture."""
        assert is_prng_key(key)
        key_rate, key_count = jax.random.split(key)
        size = jnp.broadcast_to(1.0 / self.scale, sample_shape + self.batch_shape)
        rate = jax.random.gamma(key_rate, size) * self.mean * self.scale
        return jax.random.poisson(key_count, rate)

    @staticmethod
    def variance_of(mean, scale):
        """Return ``mean + scale * mean**2``."""
        return mean + scale * mean**2

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return ``6 scale + 1 / variance``."""
        return 6.0 * scale + 1.0 / (mean + scale * mean**2)

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return the regularised incomplete beta function."""
        return special.betainc(1.0 / scale, np.floor(value) + 1.0, 1.0 / (1.0 + scale * mean))

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw counts."""
        return rng.negative_binomial(1.0 / scale, 1.0 / (1.0 + scale * mean))

    @staticmethod
    def scale_prior(spread):
        """Return that of brms since its version 2.22: ``1 / scale`` is inverse gamma (Buerkner 2017).

        doi:10.18637/jss.v080.i01
        """
        return dist.Gamma(0.4, 0.3)

    @staticmethod
    def stand_ins(y, weight):
        """Return the distinct counts, where these are few."""
        values, index = np.unique(y, return_inverse=True)
        if len(values) >= len(y) // 4:
            return y.T, weight.T
        length = _TABLE ** int(np.ceil(np.log(max(len(values), 2)) / np.log(_TABLE)))
        index = index.reshape(y.shape)
        table = np.stack(
            [np.bincount(i, w, length) for i, w in zip(index.T, weight.T, strict=True)]
        )
        values = np.pad(values, (0, length - len(values)), constant_values=1.0)
        return np.broadcast_to(values, table.shape), table


class CategoricalPredictor(PredictorDistribution):
    """Class indices; `eta` has the classes on its last axis and the inverse link gives log-probabilities."""

    labels = True

    @staticmethod
    def _batch(shape):
        return shape[:-1]

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        """Integers from 0 to the number of classes less one."""
        return constraints.integer_interval(0, self.eta.shape[-1] - 1)

    def loss(self, value):
        """Return the negative log-probability of the class `value`."""
        classes = jnp.arange(self.eta.shape[-1])
        chosen = classes == jnp.asarray(value)[..., None]
        return -jnp.sum(jnp.where(chosen, self.inverse_link(self.eta), 0.0), axis=-1)

    def log_base(self, value):
        """Return zero."""
        return jnp.zeros(self.batch_shape, self.eta.dtype)

    def sample(self, key, sample_shape=()):
        """Draw class indices."""
        assert is_prng_key(key)
        return jax.random.categorical(key, self.mean, shape=sample_shape + self.batch_shape)
