"""Parameters of a fitted estimator: how they are held, shown, checked and turned into means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data

from bayesglm import _design, _process
from bayesglm._input import Names, check_names, neuron_names
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
        return jax.tree.map(shown, _design.split(structure, widths, array))

    @coef_.setter
    def coef_(self, value):
        value = None if value is None else _design.join(value, "coef_")
        old = None if self._coef is None else self._coef[2].shape[1:]
        self._edit("_coef", value, old, None if value is None else value[2].shape[1:])

    @property
    def intercept_(self):
        """Intercepts: (1,), (neurons,), (classes,) or (neurons, classes); None before `fit`."""
        return shown(self._intercept)

    @intercept_.setter
    def intercept_(self, value):
        value = None if value is None else np.atleast_1d(_design.to_double(value, "intercept_"))
        old = None if self._intercept is None else self._intercept.shape
        self._edit("_intercept", value, old, None if value is None else value.shape)

    def _keep(self, fitted: dict) -> None:
        """Take over a fit, and note what it was made with."""
        self._forget_fit()
        self.__dict__.update(fitted)
        self._fitted_with = self._settings_now()

    def _edit(self, name: str, value, old_shape, shape) -> None:
        """Set parameters by hand: draws are not theirs; the dispersion stays, unless it is that of other neurons."""
        if old_shape is None or old_shape == shape:
            self._posterior, self._edited = None, True
        else:
            self._forget_fit()
        setattr(self, name, value)

    @property
    def scale_(self):
        """Dispersion of the response; None before `fit`."""
        return shown(self._scale)

    @scale_.setter
    def scale_(self, value):
        self._scale = None if value is None else _design.to_double(value, "scale_")
        self._posterior = None

    @property
    def dof_resid_(self):
        """Residual degrees of freedom; None before `fit`."""
        return shown(self._dof_resid)

    @dof_resid_.setter
    def dof_resid_(self, value):
        self._dof_resid = None if value is None else _design.to_double(value, "dof_resid_")

    def __sklearn_is_fitted__(self) -> bool:
        return self._coef is not None and self._intercept is not None

    def _require_fit(self) -> None:
        if not self.__sklearn_is_fitted__():
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
        intercept = _design.to_double(params[1], "intercept")
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
        tree = jax.tree.map(shown, _design.split(design.structure, design.widths, coef))
        return tree, shown(np.atleast_1d(intercept))

    def _fitted(self, X):
        """Return the design of X and the fitted parameters, checked against each other."""
        self._require_fit()
        design = _design.Design.of(X)
        structure, widths, coef = self._coef
        if structure == design.structure:
            self._check_feature_names(design)
        n_neurons = coef.shape[1] if self._population and coef.ndim > 1 else 1
        tree = _design.split(structure, widths, coef)
        coef, intercept = self._check_params((tree, self._intercept), design, n_neurons)
        mask = _design.coefficient_mask(
            self._feature_mask, structure, widths, self._outputs(n_neurons)
        )
        return design, coef * mask, intercept

    def _check_feature_names(self, design: _design.Design) -> None:
        fitted, given = self._names.features or (None,) * len(design.widths), design.names
        if jax.tree.structure(0) != design.structure:
            for mine, theirs, leaf in zip(
                fitted, given, _design.leaf_names(design.structure), strict=True
            ):
                check_names(theirs, mine, f"columns of X[{leaf!r}]")
        elif fitted != given:
            # scikit-learn's own rules and messages, whatever kind of data frame this is
            import pandas as pd

            names, width = given[0], design.widths[0]
            like = np.empty((0, width)) if names is None else pd.DataFrame(columns=list(names))
            validate_data(self, like, reset=False, skip_check_array=True)
        width, expected = design.n_features, self.n_features_in_
        if width != expected:
            raise ValueError(
                f"Inconsistent number of features: X has {width} features, but {type(self).__name__} is expecting "
                f"{expected} features as input, as many as `coef_` has."
            )

    def _names_of(self, design: _design.Design, y) -> Names:
        """Return the names that training data bring along."""
        return Names(design.names, neuron_names(y) if self._population else None)

    def _check_neuron_names(self, y) -> None:
        if self._population:
            check_names(neuron_names(y), self._names.neurons, "neurons, the columns of y,")

    def _check_neurons(self, rows) -> None:
        """Raise a ValueError if rows have another number of neurons than the fit."""
        mine = self._coef[2].shape[1] if self._population else 1
        if rows.y.shape[1] != mine:
            raise ValueError(
                f"Inconsistent number of neurons: `y` has {rows.y.shape[1]}, the model {mine}."
            )

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns of X (features,), where `fit` saw a data frame; as in scikit-learn."""
        names = self._names.features
        if names is None or len(names) != 1 or names[0] is None:
            raise AttributeError(
                f"{type(self).__name__} has no `feature_names_in_`: it was not fitted to a data frame."
            )
        return np.array(names[0], dtype=object)

    @property
    def n_features_in_(self) -> int:
        """Number of features, over all leaves of X."""
        if self._coef is None:
            raise AttributeError(f"{type(self).__name__} has no `n_features_in_` before `fit`.")
        return len(self._coef[2])

    def _labels(self) -> dict[str, list]:
        """Return the labels of features, neurons and classes of the fit, where there are such."""
        structure, widths, coef = self._coef
        n_neurons = coef.shape[1] if self._population else None
        classes = self._encoder.classes_ if self._classifier else None
        return _results.labels(structure, widths, self._names, n_neurons, classes)

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


def shown(array):
    """Return what is kept as the JAX array that the user sees."""
    if array is None:
        return None
    _process.check()
    with np.errstate(over="ignore"):  # what single precision cannot hold is shown as infinite
        return jnp.asarray(array)


def _like(offset_shape, shape):
    """Shape of an offset (samples, neurons[, classes]) next to a predictor of the user's shape."""
    return offset_shape if len(offset_shape) == len(shape) else (offset_shape[0], *offset_shape[2:])
