"""What is said of a strength that is not known: a prior of the standard deviation that it stands for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints
from scipy import special

from bayesglm._component import Component

#: Where the search of a standard deviation ends, in units of :attr:`Scale.prior` by default (see there).
BOUNDS = 1e-4, 1e3
# Degrees of freedom and scale of the default prior, in the same units.
_DF, _WIDTH = 3.0, 2.5
_FLAT = "ImproperUniform"


class Scale(Component):
    r"""A strength that is learned from the data: ``regularizer_strength=Scale(...)``, or ``"auto"`` for ``Scale()``.

    The unknown is the standard deviation :math:`\sigma = (n \kappa s)^{-1/2}` of the prior, in units of the
    coefficients (of what the precision penalises, where it is not the identity). `fit` takes the mode of its marginal
    posterior: the evidence of the data, all coefficients integrated out, times `prior`.

    Parameters
    ----------
    prior : numpyro.distributions.Distribution, optional
        Density of the standard deviation, one positive number; ``ImproperUniform(constraints.positive, (), ())`` gives
        restricted maximum likelihood. By default a weak one, whatever the units of X and y: with v the variance over
        rows of the effect of the features at a standard deviation of one, :math:`\sigma \sqrt v` is half a Student's t
        with 3 degrees of freedom and the scale 2.5, times the unit of the predictor (the standard deviation of y for
        an identity link, the mean of the predictor for ``1/x``, otherwise 1).
    shared : bool
        Whether all neurons have one standard deviation; otherwise each has its own.
    per_feature : bool
        Whether each feature has its own (automatic relevance determination); for diagonal precisions.

    References
    ----------
    Wood (2011), REML and marginal likelihood estimation of semiparametric generalized linear models.
    doi:10.1111/j.1467-9868.2010.00749.x; MacKay (1992) for one per feature. doi:10.1162/neco.1992.4.3.415
    """

    def __init__(self, prior=None, shared: bool = False, per_feature: bool = False):
        self.prior, self.shared, self.per_feature = prior, shared, per_feature
        self._check()

    def _check(self) -> None:
        for name in ("shared", "per_feature"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"`{name}` must be a bool, but {getattr(self, name)!r} was given.")
        if self.prior is None:
            return
        if not isinstance(self.prior, dist.Distribution):
            raise TypeError(
                "`prior` of Scale must be a NumPyro distribution of one positive number, such as "
                f"`numpyro.distributions.HalfNormal(1.0)`, but {self.prior!r} was given."
            )
        if self.prior.batch_shape or self.prior.event_shape:
            raise ValueError(
                "`prior` of Scale must be a distribution of one number, but has the shape "
                f"{self.prior.batch_shape + self.prior.event_shape}."
            )
        if not _is_positive(self.prior.support):
            raise ValueError(
                "`prior` of Scale is one of a standard deviation, and must have positive numbers as its support, but "
                f"{type(self.prior).__name__} has {self.prior.support}. Use `HalfNormal`, `Gamma` or the like."
            )

    def __repr__(self):
        given = {k: v for k, v in self.get_params().items() if v is not None and v is not False}
        parts = (f"{k}={_named(v) if k == 'prior' else v}" for k, v in given.items())
        return f"Scale({', '.join(parts)})"

    def plain(self) -> dict:
        """Return plain data that say the same.

        Raises
        ------
        ValueError
            If `prior` is not a distribution of NumPyro's that is made of numbers.
        """
        return {
            "prior": None if self.prior is None else _plain(self.prior),
            "shared": bool(self.shared),
            "per_feature": bool(self.per_feature),
        }

    @classmethod
    def of_plain(cls, plain: dict) -> Scale:
        """Return what :meth:`plain` says.

        Raises
        ------
        ValueError
            If it names no distribution of NumPyro's.
        """
        return cls(**{**plain, "prior": None if plain["prior"] is None else _made(plain["prior"])})

    def log_density(self, log_sd, log_unit):
        """Return the log-density of standard deviations, and its first two derivatives in their log.

        Parameters
        ----------
        log_sd, log_unit : arrays that broadcast
            The second is the log of the standard deviation at which the default prior is at its unit.
        """
        if self.prior is None:
            return _weak(np.asarray(log_sd) - log_unit, log_unit)
        value = lambda r: self.prior.log_prob(jnp.exp(r))  # noqa: E731
        slope = lambda r: jax.jvp(value, (r,), (jnp.ones_like(r),))[1]  # noqa: E731
        flat = np.ravel(log_sd)
        # of a few lengths, so that little is compiled anew
        at = np.ones(1 << max(flat.size - 1, 0).bit_length())
        at[: flat.size] = flat
        at = jnp.asarray(at)
        bend = jax.jvp(slope, (at,), (jnp.ones_like(at),))[1]
        found = (np.asarray(a + 0.0 * at)[: flat.size] for a in (value(at), slope(at), bend))
        return tuple(a.reshape(np.shape(log_sd)) for a in found)


def _weak(log_ratio, log_unit):
    """Return the log-density of half a Student's t, and its first two derivatives in the log."""
    square = np.exp(2.0 * np.minimum(log_ratio, 300.0))
    most = _DF * _WIDTH**2
    half = 0.5 * (_DF + 1.0)
    top = np.log(2.0) + special.gammaln(half) - special.gammaln(0.5 * _DF)
    top -= 0.5 * np.log(np.pi * most)
    share = square / (most + square)
    value = top - half * np.log1p(square / most) - log_unit
    return value, -2.0 * half * share, -4.0 * half * share * (1.0 - share)


def _is_positive(support) -> bool:
    """Return whether a support holds positive numbers, and no others."""
    probe = jnp.array([-1.0, -1e-3])
    try:
        return not bool(jnp.any(support(probe))) and bool(jnp.any(support(jnp.array([1e-3, 1.0]))))
    except NotImplementedError:
        return support is constraints.positive


def _plain(prior) -> dict:
    kind = type(prior)
    if isinstance(prior, dist.ImproperUniform) and prior.support is constraints.positive:
        return {"name": _FLAT, "values": {}}
    values = {name: float(getattr(prior, name)) for name in prior.arg_constraints}
    if getattr(dist, kind.__name__, None) is not kind or not values:
        raise ValueError(
            f"`prior` of Scale is {prior!r}, which cannot be saved: only distributions of `numpyro.distributions` "
            "that are made of numbers can."
        )
    return {"name": kind.__name__, "values": values}


def _made(plain: dict):
    name, values = str(plain["name"]), dict(plain["values"])
    if name == _FLAT:
        return dist.ImproperUniform(constraints.positive, (), ())
    kind = getattr(dist, name, None) if name in dist.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, dist.Distribution)):
        raise ValueError(f"{name!r} is no distribution of `numpyro.distributions`.")
    return kind(**{key: float(value) for key, value in values.items()})


def _named(prior) -> str:
    """Return a distribution in the words that make it."""
    values = (f"{float(getattr(prior, name)):g}" for name in prior.arg_constraints)
    try:
        return f"{type(prior).__name__}({', '.join(values)})"
    except (TypeError, ValueError, AttributeError):
        return type(prior).__name__
