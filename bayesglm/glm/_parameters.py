"""Parameters of a fitted estimator: how they are held, shown, checked and turned into means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import NotFittedError

from bayesglm import _design, _process
from bayesglm._shards import fill, filled_length
from bayesglm.glm import _results
from bayesglm.glm._configuration import Configuration
from bayesglm.glm._problem import check_offset


class Parameters(Configuration):
    """An estimator's coefficients, intercepts and dispersion.

    They are kept in the precision they were computed in, and shown as arrays of JAX's current default dtype.
    """

    @property
    def coef_(self):
        """Coefficients in the structure of X, each (features, *outputs); None before `fit`."""
        if self._coef is None:
            return None
        structure, widths, array = self._coef
        return jax.tree.map(_shown, _design.split(structure, widths, array))

    @coef_.setter
    def coef_(self, value):
        value = None if value is None else _design.join(value, "coef_")
        self._forget_fit()
        self._coef = value

    @property
    def intercept_(self):
        """Intercepts: (1,), (neurons,), (classes,) or (neurons, classes); None before `fit`."""
        return _shown(self._intercept)

    @intercept_.setter
    def intercept_(self, value):
        value = None if value is None else np.atleast_1d(np.asarray(value, dtype=np.float64))
        self._forget_fit()
        self._intercept = value

    @property
    def scale_(self):
        """Dispersion of the response; None before `fit`."""
        return _shown(self._scale)

    @scale_.setter
    def scale_(self, value):
        self._scale = None if value is None else np.asarray(value, dtype=np.float64)

    @property
    def dof_resid_(self):
        """Residual degrees of freedom; None before `fit`."""
        return _shown(self._dof_resid)

    @dof_resid_.setter
    def dof_resid_(self, value):
        self._dof_resid = None if value is None else np.asarray(value, dtype=np.float64)

    def _require_fit(self) -> None:
        if self._coef is None or self._intercept is None:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call `fit`, or set `coef_` and `intercept_`."
            )

    def _require_classes(self, method: str) -> None:
        if self._classifier:
            self._encoder.check_classes_is_set(method)

    def _outputs(self, n_neurons: int) -> tuple[int, ...]:
        neurons = (n_neurons,) if self._population else ()
        return neurons + ((self._encoder.n_classes,) if self._classifier else ())

    def _check_params(self, params, design: _design.Design, n_neurons: int):
        """Return user parameters as arrays (features, *outputs) and (*outputs)."""
        if not isinstance(params, (tuple, list)):
            raise TypeError(
                f"Parameters must be a tuple (coef, intercept) of length two, but {type(params).__name__} was given."
            )
        if len(params) != 2:
            raise ValueError(
                f"Params must have length two, (coef, intercept), but have length {len(params)}."
            )
        structure, widths, coef = _design.join(params[0], "coef")
        try:
            intercept = np.asarray(params[1], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError("`intercept` cannot be converted to an array of numbers.") from error
        outputs = self._outputs(n_neurons)
        if structure != design.structure:
            raise TypeError(f"`coef` has the structure {structure}, but X has {design.structure}.")
        if widths != design.widths:
            raise ValueError(
                f"Inconsistent number of features: `coef` has {widths} per leaf, but X has {design.widths}."
            )
        if coef.shape[1:] != outputs or intercept.shape != (outputs or (1,)):
            raise ValueError(
                "Invalid parameter dimensionality: expected coefficients (features, "
                f"*{outputs}) and intercept of shape {outputs or (1,)}, but (features, *{coef.shape[1:]}) "
                f"and shape {intercept.shape} were given."
            )
        return coef, intercept.reshape(outputs)

    def _user_params(self, design, coef, intercept):
        """Return (coef, intercept) as the user sees them."""
        tree = jax.tree.map(jnp.asarray, _design.split(design.structure, design.widths, coef))
        return tree, jnp.asarray(np.atleast_1d(intercept))

    def _fitted(self, X):
        """Return the design of X and the fitted parameters, checked against each other."""
        self._require_fit()
        design = _design.Design.of(X)
        structure, widths, coef = self._coef
        n_neurons = coef.shape[1] if self._population and coef.ndim > 1 else 1
        tree = _design.split(structure, widths, coef)
        coef, intercept = self._check_params((tree, self._intercept), design, n_neurons)
        mask = _design.coefficient_mask(
            self._feature_mask, structure, widths, self._outputs(n_neurons)
        )
        return design, coef * mask, intercept

    def _rate(self, design, coef, intercept, offset=None) -> np.ndarray:
        """Mean of the response (log-probabilities of the classes) for each row, in the user's shape."""
        n_neurons = coef.shape[1] if self._population else 1
        encoder = self._encoder if self._classifier else None
        dtype = design.matrix.dtype
        offset = check_offset(offset, (design.n_samples, n_neurons), encoder, dtype)
        # The product is left to numpy, which has nothing to compile; the inverse link sees a few lengths.
        with np.errstate(invalid="ignore", over="ignore"):
            eta = np.tensordot(design.matrix, coef.astype(dtype), 1) + intercept.astype(dtype)
            if offset is not None:
                eta = eta + offset.reshape(_like(offset.shape, eta.shape))
        some = fill(eta, filled_length(len(eta), eta.nbytes))
        return np.asarray(self.inverse_link_function(jax.device_put(some)))[: len(eta)]

    def _like_input(self, X, values):
        """Return values on the time axis of pynapple input, and unchanged otherwise."""
        leaf = jax.tree.leaves(X)[0] if not hasattr(X, "time_support") else X
        if not hasattr(leaf, "time_support"):
            return values
        return _results.to_pynapple(leaf, np.asarray(values), getattr(self, "_metadata", None))


def _shown(array):
    """Return what is kept as the JAX array that the user sees."""
    if array is None:
        return None
    _process.check()
    return jnp.asarray(array)


def _like(offset_shape, shape):
    """Shape of an offset (samples, neurons[, classes]) next to a predictor of the user's shape."""
    return offset_shape if len(offset_shape) == len(shape) else (offset_shape[0], *offset_shape[2:])
