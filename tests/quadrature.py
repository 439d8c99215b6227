"""Exact posterior moments of small models, by summing the density of their NumPyro model over a grid."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.util import log_density

from bayesglm import _families

# Points of each axis, by the number of axes. The grid reaches eight standard deviations to either side, so that points
# are a fifth (in three dimensions a third) of one apart: the sum over a smooth density is exact to far more digits than
# any test needs, that over a kink to less than a percent.
POINTS = {2: 81, 3: 49}
REACH = 8.0


def moments(estimator, X, y, centre, spread, **how):
    """Return means and variances of (coef..., intercept[, log scale]), each (parameters,).

    Parameters
    ----------
    estimator
        Of one neuron.
    centre, spread : arrays (parameters,)
        Where the mass is, roughly.
    how
        `scale` (where the dispersion is fixed; otherwise it is the last parameter of families that have one) or
        `scale_prior`.
    """
    n_features, size = X.shape[1], len(centre)
    axes = [
        np.linspace(c - REACH * s, c + REACH * s, POINTS[size])
        for c, s in zip(centre, spread, strict=True)
    ]
    grid = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    sampled = size > n_features + 1
    parameter = _families.parameter(estimator.observation_model)
    with jax.enable_x64(True):
        model = estimator.numpyro_model(X, y, **how)

        def log_p(u):
            values = {"coef": u[:n_features], "intercept": u[n_features]}
            jacobian = 0.0
            if sampled:
                scale = jnp.exp(u[-1])
                shown = scale if parameter.shown is None else parameter.shown(scale)
                values[parameter.name] = shown
                jacobian = u[-1] + parameter.log_slope(scale)
            return log_density(model, (), {}, values)[0] + jacobian

        found = np.asarray(jax.vmap(log_p)(jnp.asarray(grid)))
    found = np.where(np.isnan(found), -np.inf, found)  # outside the domain of the link
    p = np.exp(found - found.max())
    p /= p.sum()
    cube = p.reshape([len(axis) for axis in axes])
    edges = [np.take(cube, end, axis).sum() for axis in range(size) for end in (0, -1)]
    assert max(edges) < 1e-4, "the grid does not hold the mass"
    mean = p @ grid
    return mean, p @ np.square(grid - mean)
