"""Likelihoods of counts, as functions of the linear predictor.

NumPyro's own Poisson and negative binomial take the mean, which loses the tails: a Poisson with ``eta = -800`` has a
rate of exactly 0 and a log-density of ``-inf``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import ComposeTransform, ExpTransform, SigmoidTransform
from numpyro.util import is_prng_key
from scipy import special

from bayesglm.distributions._predictor import Parameter, PredictorDistribution

# Distinct counts are padded to a power of this number, so that other data rarely need another program.
_TABLE = 4


class PoissonPredictor(PredictorDistribution):
    """Poisson counts with variance equal to the mean."""

    support = constraints.nonnegative_integer

    def loss(self, value):
        """Return ``mean - y log(mean)``."""
        return self.mean - value * self.log_mean()

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


class NegativeBinomialPredictor(PredictorDistribution):
    """Counts with mean `mu` and variance ``mu + scale * mu**2``."""

    support = constraints.nonnegative_integer

    def loss(self, value):
        """Return ``(y + 1/scale) log(1 + scale mean) - y log(scale mean)``."""
        log_odds = jnp.log(self.scale) + self.log_mean()
        # No difference of terms of the size of y, whose rounding would be all that is left of large counts.
        return value * jax.nn.softplus(-log_odds) + jax.nn.softplus(log_odds) / self.scale

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

    # The prior is that of brms since its version 2.22: ``1 / scale`` is inverse gamma (Buerkner 2017).
    # doi:10.18637/jss.v080.i01
    parameter = Parameter("scale", lambda spread: dist.Gamma(0.4, 0.3))

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


class ZeroInflatedPoissonPredictor(PredictorDistribution):
    r"""Counts with mean `mu`: zero with probability `pi`, else Poisson with mean ``mu / (1 - pi)``.

    `scale` is the odds of a zero of the first kind, :math:`\phi = \pi / (1 - \pi)`, which takes any positive value.
    """

    support = constraints.nonnegative_integer

    def loss(self, value):
        """Return minus the log-density without what depends on `scale` or the response alone."""
        log_rate = self.log_mean() + jnp.log1p(self.scale)
        rate = self.mean * (1.0 + self.scale)
        zero = -jnp.logaddexp(jnp.log(self.scale), -rate)
        return jnp.where(value == 0, zero, rate - value * log_rate)

    def log_base(self, value):
        """Return ``-log(1 + scale) - log y!``."""
        return -jnp.log1p(self.scale) - gammaln(value + 1.0)

    def sample(self, key, sample_shape=()):
        """Draw counts."""
        assert is_prng_key(key)
        key_gate, key_count = jax.random.split(key)
        shape = sample_shape + self.batch_shape
        gated = jax.random.uniform(key_gate, shape) * (1.0 + self.scale) < self.scale
        return jnp.where(
            gated, 0, jax.random.poisson(key_count, self.mean * (1.0 + self.scale), shape)
        )

    variance_of = staticmethod(NegativeBinomialPredictor.variance_of)

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        """Return that of the mixture, from its moments about zero."""
        rate, share = mean * (1.0 + scale), 1.0 / (1.0 + scale)
        second, third, fourth = (
            share * np.polyval(powers, rate)
            for powers in ((1, 1, 0), (1, 3, 1, 0), (1, 6, 7, 1, 0))
        )
        central = fourth - 4.0 * mean * third + 6.0 * mean**2 * second - 3.0 * mean**4
        return central / (mean + scale * mean**2) ** 2 - 3.0

    @staticmethod
    def cdf_of(value, mean, scale):
        """Return that of the mixture."""
        return (scale + special.pdtr(np.floor(value), mean * (1.0 + scale))) / (1.0 + scale)

    @staticmethod
    def draw_of(rng, mean, scale):
        """Draw counts."""
        drawn = rng.poisson(mean * (1.0 + scale))
        return np.where(rng.random(mean.shape) * (1.0 + scale) < scale, 0, drawn)

    # The gate itself is uniform between 0 and 1.
    parameter = Parameter(
        "gate",
        lambda spread: dist.TransformedDistribution(
            dist.Beta(1.0, 1.0), [SigmoidTransform().inv, ExpTransform()]
        ),
        shown=ComposeTransform([ExpTransform().inv, SigmoidTransform()]),
    )

    stand_ins = staticmethod(NegativeBinomialPredictor.stand_ins)
