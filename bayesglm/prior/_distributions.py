"""The NumPyro distributions of coefficients that are not one NumPyro distribution for each coefficient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution, constraints, transforms
from numpyro.util import is_prng_key

from bayesglm.distributions import PartlyFlat

LOG_2PI = float(np.log(2.0 * np.pi))


class CoupledNormal(Distribution):
    r"""Normal prior along the features of every output, with precision ``rate * P`` and flat on its null space.

    .. math:: \log p(w) = \tfrac12 (r \log\tfrac{rate}{2\pi} + \log|P|_+ - rate\, w'Pw), \quad r = \mathrm{rank}\, P

    Parameters
    ----------
    precision : Precision
    rate, rank, log_det : arrays (*outputs)
        Factor of the precision; rank and log-determinant of the precision among the coefficients in use.
    location, used : arrays (features, *outputs)
    zero_sum : bool
        Whether coefficients live where they sum to zero over the classes (the last output), for which all is the same.

    References
    ----------
    Rue, Held (2005), Gaussian Markov Random Fields, section 3.3. doi:10.1201/9780203492024
    """

    pytree_data_fields = ("precision", "rate", "rank", "log_det", "location", "used")
    pytree_aux_fields = ("zero_sum",)

    def __init__(
        self, precision, rate, rank, log_det, location, used, zero_sum, *, validate_args=None
    ):
        self.precision, self.rank, self.log_det = jax.tree.map(
            _canonical, (precision, rank, log_det)
        )
        self.rate = jnp.broadcast_to(rate, used.shape[1:])
        self.location, self.used, self.zero_sum = location, used, zero_sum
        super().__init__((), used.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self):
        """Real arrays, or those that sum to zero over the classes."""
        return support_of(self.event_dim, self.zero_sum)

    def log_prob(self, value):
        """Return the log-density."""
        off = jnp.where(self.used, value - self.location, 0.0)
        off = jnp.moveaxis(off, -self.event_dim, -1)
        squared = jnp.sum(off * self.precision.along(off), axis=-1)
        found = coupled_log_prob(self.rate, self.rank, self.log_det, squared, self.zero_sum)
        return jnp.sum(found, axis=tuple(range(-self.event_dim + 1, 0)))

    def sample(self, key, sample_shape=()):
        """Draw through the Cholesky factor.

        Raises
        ------
        NotImplementedError
            If the prior is flat in some direction.
        """
        assert is_prng_key(key)
        n_used = np.asarray(self.used).sum(axis=0)
        if (np.asarray(self.rank) < n_used).any():
            raise NotImplementedError(
                "A prior with a singular precision is flat on its null space and cannot be drawn; give the null "
                "space a precision too."
            )
        used = jnp.moveaxis(self.used, 0, -1)
        both = used[..., :, None] & used[..., None, :]
        matrix = jnp.where(both, self.precision.dense(), jnp.eye(used.shape[-1]))
        root = jnp.linalg.cholesky(matrix)
        z = jax.random.normal(key, (*sample_shape, *used.shape), root.dtype)
        root = jnp.broadcast_to(root, (*z.shape[:-1], *root.shape[-2:]))
        w = jax.scipy.linalg.solve_triangular(root, z[..., None], lower=True, trans=1)[..., 0]
        w = jnp.moveaxis(w / jnp.sqrt(self.rate)[..., None], -1, -self.event_dim)
        if self.zero_sum:
            return w - w.mean(axis=-1, keepdims=True)
        return w + self.location


def _canonical(leaf):
    """Return a NumPy array in the precision in which JAX computes."""
    return np.asarray(leaf, jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype))


def coupled_log_prob(rate, rank, log_det, squared, zero_sum: bool):
    """Return the log-density of each output, given the quadratic form at a rate of one."""
    positive = rate > 0
    log_rate = jnp.log(jnp.where(positive, rate, 1.0))
    half = jnp.where(positive, 0.5 * (rank * (log_rate - LOG_2PI) + log_det), 0.0)
    if zero_sum:  # one dimension less, of as many as there are classes
        half = half * (half.shape[-1] - 1) / half.shape[-1]
    return half - 0.5 * rate * squared


class Joined(Distribution):
    """Independent priors of different features.

    Parameters
    ----------
    parts : tuple of Distribution
        Each over (some features, *outputs).
    rows : tuple of tuples of int
        The features of each.
    shape : tuple
        (features, *outputs).
    """

    pytree_data_fields = ("parts",)
    pytree_aux_fields = ("rows", "zero_sum")

    def __init__(self, parts, rows, shape, zero_sum, *, validate_args=None):
        self.parts, self.rows, self.zero_sum = parts, rows, zero_sum
        super().__init__((), tuple(shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self):
        """Real arrays, or those that sum to zero over the classes."""
        return support_of(self.event_dim, self.zero_sum)

    def log_prob(self, value):
        """Return the log-density."""
        first = jnp.ndim(value) - self.event_dim
        of = lambda rows: jnp.take(value, np.array(rows, int), axis=first)  # noqa: E731
        each = (part.log_prob(of(rows)) for part, rows in zip(self.parts, self.rows, strict=True))
        return sum(each, jnp.zeros(jnp.shape(value)[:first]))

    def sample(self, key, sample_shape=()):
        """Draw every part."""
        keys = jax.random.split(key, len(self.parts))
        drawn = [p.sample(k, sample_shape) for p, k in zip(self.parts, keys, strict=True)]
        order = np.argsort(np.concatenate([np.array(rows, int) for rows in self.rows]))
        return jnp.take(jnp.concatenate(drawn, axis=len(sample_shape)), order, len(sample_shape))


def support_of(ndim: int, zero_sum: bool):
    """Return the constraint of arrays of so many axes, which may sum to zero over the last one."""
    if zero_sum:
        return constraints.independent(constraints.zero_sum(1), ndim - 1)
    return constraints.independent(constraints.real, ndim)


def flat(shape, zero_sum: bool) -> Distribution:
    """Return the flat prior."""
    return dist.ImproperUniform(
        constraints.zero_sum(1) if zero_sum else constraints.real, (), shape
    )


def elementwise(base: Distribution, proper) -> Distribution:
    """Return independent priors of single coefficients as one, which is flat where it is not proper."""
    return (base if proper.all() else PartlyFlat(base, proper)).to_event(proper.ndim)


def zero_sum_normal(rate, proper, shape) -> Distribution:
    """Return normal priors (features, *neurons) on vectors of classes that sum to zero.

    Parameters
    ----------
    rate : array (features, *neurons)
        Precision.
    shape : tuple
        (features, *neurons, classes).
    """
    # a unit vector scaled: NumPyro's distribution does not batch over its scale
    unit = dist.ZeroSumNormal(1.0, event_shape=shape[-1:]).expand(shape[:-1])
    scaled = dist.TransformedDistribution(unit, _ScaleZeroSum(1.0 / jnp.sqrt(rate), shape[-1]))
    return elementwise(scaled, proper)


class _ScaleZeroSum(transforms.Transform):
    """Multiply zero-sum vectors of `size` entries by a positive factor each."""

    domain = constraints.zero_sum(1)
    codomain = constraints.zero_sum(1)

    def __init__(self, factor, size):
        self.factor, self.size = factor, size

    def __call__(self, x):
        return x * self.factor[..., None]

    def _inverse(self, y):
        return y / self.factor[..., None]

    def log_abs_det_jacobian(self, x, y, intermediates=None):
        # the subspace has one dimension less than the vector
        return (self.size - 1) * jnp.log(self.factor)

    def tree_flatten(self):
        return (self.factor,), (("factor",), {"size": self.size})
