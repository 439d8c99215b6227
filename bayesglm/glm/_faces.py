"""Models of many responses, of class labels, and of both; and of what files hold."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm import labels, posterior
from bayesglm._input import is_one_of, to_labels
from bayesglm._layout import shown
from bayesglm._messages import tell
from bayesglm.glm import _prediction, _save, _traced
from bayesglm.glm._edge import new_rows
from bayesglm.glm._estimator import argument
from bayesglm.glm._glm import GLM
from bayesglm.glm._values import needed


class PopulationGLM(GLM):
    """Generalized linear models of many responses (neurons) on the same features, fitted together.

    The neurons are independent: the result is that of one :class:`GLM` each, in a fraction of the time.

    Parameters
    ----------
    observation_model, inverse_link_function, regularizer, regularizer_strength, solver_name, solver_kwargs
        As in :class:`GLM`.
    feature_mask : array (features, neurons), or a pytree, optional
        1 where a feature is a predictor of a neuron, else 0. For X as a pytree, a pytree of the same structure with
        leaves (neurons,), or of the shape of the coefficients. It cannot be changed after `fit`.

    Attributes
    ----------
    coef_ : array (features, neurons), or a pytree of these
        Zero where masked.
    intercept_ : array (neurons,)
    scale_ : array (neurons,)
    dof_resid_ : array (neurons,)
    solver_state_
        How the fit ended.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> rng = np.random.default_rng(1)
    >>> X = rng.normal(size=(500, 3))
    >>> y = rng.poisson(np.exp(X @ [[0.5, 0.0], [-0.5, -0.5], [0.0, 1.0]]))
    >>> mask = np.array([[1, 0], [1, 1], [0, 1]])
    >>> model = nmo.glm.PopulationGLM(feature_mask=mask).fit(X, y)
    >>> np.asarray(model.coef_)[mask == 0]
    array([0., 0.], dtype=float32)
    """

    def __init__(
        self, observation_model="Poisson", inverse_link_function=None, regularizer="UnRegularized",
        regularizer_strength=None, solver_name=None, solver_kwargs=None, feature_mask=None,
    ):  # fmt: skip
        self._configure(
            population=True, observation_model=observation_model,
            inverse_link_function=inverse_link_function, regularizer=regularizer,
            regularizer_strength=regularizer_strength, solver_name=solver_name,
            solver_kwargs=solver_kwargs, feature_mask=feature_mask,
        )  # fmt: skip

    feature_mask = argument("feature_mask")


class _Default(str):
    """A default that can be told from the same text given by the user."""


_LOG_PROBA = _Default("log-proba")


class ClassifierGLM(GLM):
    """Softmax regression: a generalized linear model of class labels.

    Every class has its own coefficients (the symmetric form), which a penalty makes unique; without
    one, and always for the intercepts, the solution that sums to zero over the classes is returned.

    Parameters
    ----------
    n_classes : int
        Number of classes, at least 2.
    inverse_link_function : callable, optional
        ``log_softmax`` by default.
    regularizer : str, Regularizer or dict, optional
        ``"Ridge"`` by default.
    regularizer_strength, solver_name, solver_kwargs
        As in :class:`GLM`; a strength of 1.0 by default.

    Attributes
    ----------
    coef_ : array (features, classes), or a pytree of these
    intercept_ : array (classes,)
    classes_ : array (classes,)
        Labels, in the order of the columns.
    scale_ : array (1,)
        As in :class:`GLM`, like `dof_resid_` and `solver_state_`.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    >>> model = nmo.glm.ClassifierGLM(n_classes=2).fit(X, np.array(["cat", "cat", "dog", "dog"]))
    >>> model.predict(X)
    array(['cat', 'cat', 'dog', 'dog'], dtype='<U3')
    """

    def __init__(
        self, n_classes=2, inverse_link_function=None, regularizer=None, regularizer_strength=None,
        solver_name=None, solver_kwargs=None,
    ):  # fmt: skip
        self._configure(
            n_classes=n_classes, inverse_link_function=inverse_link_function,
            regularizer=regularizer, regularizer_strength=regularizer_strength,
            solver_name=solver_name, solver_kwargs=solver_kwargs,
        )  # fmt: skip

    n_classes = argument("n_classes")

    @property
    def classes_(self):
        """Class labels in the order of the columns of the coefficients, or None if not known yet."""
        return self._held.layout.classes

    @classes_.setter
    def classes_(self, value):
        count = self._settings.n_classes
        known = None if value is None else labels.classes_of(value, count)
        self._hold(self._held.with_classes(count, known))

    def set_classes(self, y):
        """Take the class labels from `y`.

        `fit` does so by itself, and so does :meth:`initialize_optimizer_and_state` where no labels are known; call
        this before an :meth:`update` loop in which a batch may lack a class.

        Parameters
        ----------
        y : array
            Holds every label at least once.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the number of different labels is not `n_classes`.
        """
        self.classes_ = to_labels(y)
        return self

    def set_proba_output(self, return_type="log-proba"):
        """Choose what :meth:`predict_proba` returns where it is not told: what scikit-learn's tools need are "proba".

        With ``"proba"`` the scorers ``neg_log_loss`` and ``roc_auc``, soft voting and calibration work as with any
        other classifier. The choice is no constructor argument; a clone keeps it.

        Parameters
        ----------
        return_type
            ``"log-proba"``, the documented default, or ``"proba"``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For another `return_type`.
        """
        _check_return_type(return_type)
        self._settings = replace(self._settings, proba_output=return_type)
        return self

    def predict_proba(self, X, return_type=_LOG_PROBA, *, average="map", offset=None):
        """Return the LOGARITHM of the probability of each class, unless told otherwise (as documented for NeMoS).

        Beware of tools that expect probabilities, as those of scikit-learn do: see :meth:`set_proba_output`.

        Parameters
        ----------
        X : array (samples, features), or a pytree of these
        return_type
            ``"log-proba"`` or ``"proba"``; by default what :meth:`set_proba_output` said, ``"log-proba"`` without.
        average
            ``"map"``: at the fit; ``"posterior"``: averaged over the draws of :meth:`sample_posterior`.
        offset : array, optional
            As in :meth:`fit`.

        Returns
        -------
        : array (samples, classes) or (samples, neurons, classes)
            Column i belongs to ``classes_[i]``.

        Raises
        ------
        ValueError
            For another `return_type` or `average`, or if there are no draws to average over.
        """
        return_type = self._settings.proba_output if return_type is _LOG_PROBA else return_type
        _check_return_type(return_type)
        if not is_one_of(average, ("map", "posterior")):
            raise ValueError(f"`average` must be 'map' or 'posterior', but {average!r} was given.")
        fit, asked = self._fitted("predict_proba"), return_type == "proba"
        if average == "map" and _traced.is_traced(X) and offset is None:
            log_proba = _traced.mean(fit, X)
            return jnp.exp(log_proba) if asked else log_proba
        with jax.enable_x64(True):
            if average == "posterior":
                found = needed(self._posterior, "predict_proba(X, average='posterior')")
                rows = new_rows(found.fit, X, offset, np.float64)
                proba = posterior.mean_probability(found.draws(), *rows)
                found = proba if asked else np.log(proba)
            else:
                found = _prediction.mean(fit, *new_rows(fit, X, offset))
                found = _prediction.normalised(found) if asked else found
        return fit.layout.like(X, shown(found))


def _check_return_type(return_type) -> None:
    if not is_one_of(return_type, ("log-proba", "proba")):
        raise ValueError(
            f"`return_type` must be 'log-proba' or 'proba', but {return_type!r} was given."
        )


class ClassifierPopulationGLM(ClassifierGLM, PopulationGLM):
    """Softmax regressions of the labels of many subjects (neurons) on the same features.

    Parameters
    ----------
    n_classes : int
        Number of classes, the same for all neurons; at least 2.
    inverse_link_function, regularizer, regularizer_strength, solver_name, solver_kwargs
        As in :class:`ClassifierGLM`.
    feature_mask : array (features, neurons, classes), or a pytree, optional
        1 where a coefficient is in use, else 0.

    Attributes
    ----------
    coef_ : array (features, neurons, classes), or a pytree of these
    intercept_ : array (neurons, classes)
    classes_ : array (classes,)
    scale_ : array (neurons,)
        As in :class:`PopulationGLM`, like `dof_resid_` and `solver_state_`.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> X = np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0], [5.0, 6.0], [6.0, 7.0]])
    >>> y = np.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 1], [2, 2]])
    >>> model = nmo.glm.ClassifierPopulationGLM(n_classes=3).fit(X, y)
    >>> model.coef_.shape
    (2, 2, 3)
    """

    def __init__(
        self, n_classes=2, inverse_link_function=None, regularizer=None, regularizer_strength=None,
        solver_name=None, solver_kwargs=None, feature_mask=None,
    ):  # fmt: skip
        self._configure(
            population=True, n_classes=n_classes, inverse_link_function=inverse_link_function,
            regularizer=regularizer, regularizer_strength=regularizer_strength,
            solver_name=solver_name, solver_kwargs=solver_kwargs, feature_mask=feature_mask,
        )  # fmt: skip


KINDS = {
    kind.__name__: kind for kind in (GLM, PopulationGLM, ClassifierGLM, ClassifierPopulationGLM)
}


def load_model(filename, mapping_dict=None):
    """Load an estimator that `save_params` wrote.

    Nothing in the file is executed or unpickled.

    Parameters
    ----------
    filename : str or Path
    mapping_dict : dict, optional
        Functions and classes of your own that the file knows by name only, such as
        ``{"inverse_link_function": my_link}``; parameters of components as ``"regularizer__mask"``.

    Returns
    -------
    : GLM, PopulationGLM, ClassifierGLM or ClassifierPopulationGLM

    Raises
    ------
    ValueError
        If the file is not one of ours or was tampered with, or a name in it is unknown.
    FileNotFoundError
        If there is no such file.

    Warns
    -----
    UserWarning
        Naming the parameters that `mapping_dict` replaces.
    """
    saved = _save.read(filename, KINDS, mapping_dict)
    estimator = saved.kind._restored(saved)
    tell(saved.messages)
    return estimator
