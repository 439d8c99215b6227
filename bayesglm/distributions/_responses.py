"""Likelihoods of other responses than counts, as functions of the linear predictor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import PowerTransform
from numpyro.util import is_prng_key
from scipy import special

from bayesglm.distributions._predictor import Parameter, PredictorDistribution
from bayesglm.distributions._priors import HalfStudentT
from bayesglm.links import log_complement


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
        log = self.log_mean()
        return value * jnp.exp(-log) + log

    def log_base(self, value):
        """Return the normalisation for the shape ``1 / scale``."""
        shape = self.kappa
        return (shape - 1.0) * jnp.log(value) + shape * jnp.log(shape) - gammaln(shape)

    def squared_residual(self, value):
        """Return the squared relative residual."""
        return jnp.square(value * jnp.exp(-self.log_mean()) - 1.0)

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

    # ``1 / scale`` is exponential with mean 1.
    parameter = Parameter(
        "scale",
        lambda spread: dist.TransformedDistribution(dist.Exponential(1.0), PowerTransform(-1.0)),
    )

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

    # ``sqrt(scale)`` is half a Student's t with 4 degrees of freedom: Gelman (2006). doi:10.1214/06-BA117A
    parameter = Parameter(
        "scale",
        lambda spread: dist.TransformedDistribution(HalfStudentT(4.0, spread), PowerTransform(2.0)),
        power=2,
    )

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
        return -(value * self.log_mean() + (1.0 - value) * log_q)

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


class BinomialPredictor(PredictorDistribution):
    """Successes in a known number of trials, ``1 / scale``, each with the probability that the inverse link gives.

    `scale` is what the variance of the share of successes is divided by: McCullagh, Nelder (1989), section 2.2.2.
    doi:10.1007/978-1-4899-3242-6
    """

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        """Integers from 0 to the number of trials."""
        return constraints.integer_interval(0, self.total_count)

    @property
    def total_count(self):
        """Number of trials."""
        return jnp.round(1.0 / self.scale)

    @property
    def mean(self):
        """Expected number of successes."""
        return self.total_count * self.inverse_link(self.eta)

    def loss(self, value):
        """Return the cross-entropy, summed over trials."""
        log_q = log_complement(self.inverse_link, self.eta)
        return -(value * self.log_mean() + (self.total_count - value) * log_q)

    def log_base(self, value):
        """Return the log binomial coefficient."""
        total = self.total_count
        return gammaln(total + 1.0) - gammaln(value + 1.0) - gammaln(total - value + 1.0)

    def sample(self, key, sample_shape=()):
        """Draw numbers of successes."""
        assert is_prng_key(key)
        shape = sample_shape + self.batch_shape
        probability = jnp.broadcast_to(self.inverse_link(self.eta), shape)
        return jax.random.binomial(key, self.total_count, probability, shape, self.eta.dtype)

    # Of the number of successes, whose mean is `mean`.

    @staticmethod
    def variance_of(mean, scale):
        """Return ``mean (1 - scale mean)``."""
        return mean * (1.0 - scale * mean)

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return ``1 / variance - 6 scale``."""
        return 1.0 / (mean * (1.0 - scale * mean)) - 6.0 * scale

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return the regularised incomplete beta function."""
        total = _total(scale)
        return special.bdtr(np.clip(np.floor(value), 0.0, total), total, _share(mean, scale))

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw numbers of successes."""
        return rng.binomial(_total(scale), _share(mean, scale))


def _total(scale) -> np.ndarray:
    """Return numbers of trials."""
    return np.round(1.0 / np.asarray(scale, float)).astype(np.int64)


def _share(mean, scale):
    """Return a probability that rounding has not moved beyond 0 or 1."""
    return np.clip(mean * scale, 0.0, 1.0)


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
