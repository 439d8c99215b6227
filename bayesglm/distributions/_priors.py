"""Priors that NumPyro lacks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln, log_ndtr
from numpyro.distributions import Distribution, MaskedDistribution, StudentT, constraints
from numpyro.util import is_prng_key

# Above this ratio of the absolute to the quadratic rate closed forms cancel, while the asymptotic
# series of Mills' ratio, with the coefficients (-1)**k (2k - 1)!!, is exact to 1e-12. Highest power
# first; below it that of the second moment.
_SERIES_FROM = 20.0
_SERIES = np.array([-135135.0, 10395.0, -945.0, 105.0, -15.0, 3.0, -1.0, 1.0])
_MOMENT_SERIES = _SERIES * [(k + 1) * (2 * k + 1) for k in range(7, -1, -1)]


def _log_mills(x):
    """Return ``x**2 / 2 + log_ndtr(-x)`` for ``x >= 0`` without cancellation for large `x`."""
    small, large = jnp.minimum(x, _SERIES_FROM), jnp.maximum(x, _SERIES_FROM)
    far = jnp.log(jnp.polyval(_SERIES, large**-2)) - jnp.log(large) - 0.5 * jnp.log(2.0 * jnp.pi)
    return jnp.where(x < _SERIES_FROM, 0.5 * small**2 + log_ndtr(-small), far)


class ElasticNet(Distribution):
    r"""Prior with density proportional to :math:`\exp(-a|w| - b w^2/2)`.

    Parameters
    ----------
    l1, l2 : arrays, broadcastable, non-negative, not both zero
        The rates `a` and `b`. With ``b = 0`` this is a Laplace, with ``a = 0`` a normal distribution.

    References
    ----------
    Zou, Hastie (2005), section 2. doi:10.1111/j.1467-9868.2005.00503.x; Li, Lin (2010) doi:10.1214/10-BA506
    """

    arg_constraints = {"l1": constraints.nonnegative, "l2": constraints.nonnegative}
    support = constraints.real
    reparametrized_params = ["l1", "l2"]
    pytree_data_fields = ("l1", "l2")

    def __init__(self, l1, l2, *, validate_args=None):
        self.l1, self.l2 = jnp.broadcast_arrays(jnp.asarray(l1, float), jnp.asarray(l2, float))
        super().__init__(batch_shape=self.l1.shape, validate_args=validate_args)

    def _log_normaliser(self):
        # Z = sqrt(2 pi / b) erfcx(a / sqrt(2 b)); for a >> sqrt(b) it is written relative to the
        # Laplace's 2 / a, which has no division by b.
        a, b = self.l1, self.l2
        laplace = a**2 > _SERIES_FROM**2 * b
        safe_a = jnp.where(laplace, a, 1.0)
        safe_b = jnp.where(laplace, 1.0, b)
        s = jnp.where(laplace, b, 0.0) / safe_a**2
        far = jnp.log(2.0 / safe_a) + jnp.log(jnp.polyval(_SERIES, s))
        ratio = jnp.where(laplace, 0.0, a) / jnp.sqrt(safe_b)
        near = 0.5 * jnp.log(2.0 * jnp.pi / safe_b) + jnp.log(2.0) + _log_mills(ratio)
        return jnp.where(laplace, far, near)

    def log_prob(self, value):
        """Return the log-density."""
        return -self.l1 * jnp.abs(value) - 0.5 * self.l2 * value**2 - self._log_normaliser()

    def sample(self, key, sample_shape=()):
        """Draw by inverting the survival function of the absolute value, and a random sign."""
        assert is_prng_key(key)
        key_size, key_sign = jax.random.split(key)
        shape, dtype = sample_shape + self.batch_shape, self.l1.dtype
        target = jnp.log(jax.random.uniform(key_size, shape, dtype, minval=jnp.finfo(dtype).tiny))
        root_b = jnp.sqrt(self.l2)
        # Beyond this ratio the quadratic part changes a draw by less than one part in ratio**2,
        # and the difference of the two log_ndtr below loses its digits.
        laplace = self.l1 > 1e3 * root_b
        b = jnp.where(laplace, 1.0, root_b)
        start = jnp.where(laplace, 0.0, self.l1 / b)

        def newton(_, z):
            # log survival is concave, so from the second step on Newton descends on the root
            value = log_ndtr(-(start + z)) - log_ndtr(-start)
            hazard = jnp.exp(
                -0.5 * (start + z) ** 2 - 0.5 * jnp.log(2 * jnp.pi) - log_ndtr(-(start + z))
            )
            return jnp.maximum(z + (value - target) / hazard, 0.0)

        z = lax.fori_loop(0, 30, newton, jnp.zeros(shape, self.l1.dtype))
        size = jnp.where(laplace, -target / jnp.where(laplace, self.l1, 1.0), z / b)
        return size * jax.random.rademacher(key_sign, shape).astype(size.dtype)

    @property
    def variance(self):
        """Variance; the mean is zero."""
        a, b = self.l1, self.l2
        laplace = a**2 > _SERIES_FROM**2 * b
        safe_b = jnp.where(laplace, 1.0, b)
        ratio = jnp.where(laplace, 0.0, a) / jnp.sqrt(safe_b)
        hazard = jnp.exp(-0.5 * jnp.log(2 * jnp.pi) - _log_mills(ratio))
        near = (1.0 + ratio**2 - ratio * hazard) / safe_b
        safe_a = jnp.where(laplace, a, 1.0)
        s = jnp.where(laplace, b, 0.0) / safe_a**2
        far = 2.0 / safe_a**2 * jnp.polyval(_MOMENT_SERIES, s) / jnp.polyval(_SERIES, s)
        return jnp.where(laplace, far, near)

    @property
    def mean(self):
        """Zero."""
        return jnp.zeros_like(self.l1)


class HalfStudentT(Distribution):
    """Absolute value of a Student t around zero.

    Parameters
    ----------
    df, scale : arrays, broadcastable, positive
    """

    arg_constraints = {"df": constraints.positive, "scale": constraints.positive}
    support = constraints.positive
    reparametrized_params = ["df", "scale"]
    pytree_data_fields = ("df", "scale")

    def __init__(self, df, scale=1.0, *, validate_args=None):
        self.df, self.scale = jnp.broadcast_arrays(
            jnp.asarray(df, float), jnp.asarray(scale, float)
        )
        super().__init__(batch_shape=self.df.shape, validate_args=validate_args)

    def log_prob(self, value):
        """Return the log-density."""
        return jnp.log(2.0) + StudentT(self.df, 0.0, self.scale).log_prob(value)

    def sample(self, key, sample_shape=()):
        """Draw absolute values."""
        return jnp.abs(StudentT(self.df, 0.0, self.scale).sample(key, sample_shape))


class PartlyFlat(MaskedDistribution):
    """A prior that counts where its mask is True only, and is flat elsewhere."""

    def sample(self, key, sample_shape=()):
        """Refuse to draw.

        Raises
        ------
        NotImplementedError
            Always: a flat prior is improper.
        """
        raise NotImplementedError(
            "A coefficient whose strength is zero has a flat prior and cannot be drawn; give it a positive strength."
        )


class GroupLaplace(Distribution):
    r"""Prior with density proportional to :math:`\exp(-\sum_g a_g \lVert w_g \rVert_2)`.

    Parameters
    ----------
    rate : array (groups,)
        Rates :math:`a_g`, positive.
    group : int array of the shape of the coefficients
        The group of each coefficient, -1 for a coefficient with a flat prior.

    References
    ----------
    Yuan, Lin (2006) doi:10.1111/j.1467-9868.2005.00532.x; Kyung, Gill, Ghosh, Casella (2010)
    doi:10.1214/10-BA607
    """

    arg_constraints = {"rate": constraints.positive}
    pytree_data_fields = ("rate", "group")

    def __init__(self, rate, group, *, validate_args=None):
        self.rate = jnp.asarray(rate, float)
        self.group = jnp.asarray(group)
        super().__init__((), self.group.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self):
        """Real arrays."""
        return constraints.independent(constraints.real, self.group.ndim)

    def _per_group(self, values):
        """Sum over the coefficients of each group; the last segment collects the flat ones."""
        n_groups = self.rate.shape[0]
        ids = jnp.where(self.group < 0, n_groups, self.group).ravel()
        return jax.ops.segment_sum(values.ravel(), ids, n_groups + 1)[:n_groups]

    def log_prob(self, value):
        """Return the log-density (zero contribution from flat coefficients)."""
        if jnp.ndim(value) > self.event_dim:
            return jax.vmap(self.log_prob)(value)
        return jnp.sum(self.log_prob_by_group(value))

    def log_prob_by_group(self, value):
        """Return the log-density of each group, (groups,), for one value."""
        size = self._per_group(jnp.ones(self.event_shape, self.rate.dtype))
        squared = self._per_group(jnp.square(value))
        # the double `where` gives the norm a zero derivative at the kink instead of NaN
        norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
        # surface of the unit sphere in `size` dimensions times the radial integral
        log_normaliser = (
            size * jnp.log(2.0 / self.rate)
            + 0.5 * (size - 1.0) * jnp.log(jnp.pi)
            + gammaln(0.5 * (size + 1.0))
        )
        return -jnp.where(size > 0, self.rate * norm + log_normaliser, 0.0)

    def sample(self, key, sample_shape=()):
        """Draw a Gamma radius and a uniform direction for each group.

        Raises
        ------
        NotImplementedError
            If a coefficient is in no group: its prior is flat.
        """
        assert is_prng_key(key)
        if not isinstance(self.group, jax.core.Tracer) and (np.asarray(self.group) < 0).any():
            raise NotImplementedError(
                "A coefficient outside every group has a flat prior and cannot be drawn; put it in a group."
            )
        if sample_shape:
            keys = jax.random.split(key, sample_shape)
            drawn = jax.vmap(self.sample)(keys.reshape(-1, *key.shape))
            return drawn.reshape(sample_shape + self.event_shape)
        key_radius, key_direction = jax.random.split(key)
        normal = jax.random.normal(key_direction, self.event_shape, self.rate.dtype)
        size = self._per_group(jnp.ones_like(normal))
        radius = jax.random.gamma(key_radius, size) / self.rate
        scale = radius / jnp.sqrt(self._per_group(jnp.square(normal)))
        return jnp.where(self.group < 0, jnp.nan, normal * scale[self.group])
