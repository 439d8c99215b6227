"""The four estimators: one engine, told what `y` is."""

from __future__ import annotations

from bayesglm.glm._classifier import ClassifierEstimator
from bayesglm.glm._estimator import Estimator


class GLM(Estimator):
    r"""Generalized linear model of one response.

    .. math:: E[y_i] = g^{-1}(x_i' w + b + offset_i)

    Coefficients minimise the mean loss plus a penalty, which makes them the mode of the posterior under the prior
    that the penalty stands for (:meth:`numpyro_model`).

    Parameters
    ----------
    observation_model : str or Observations
        ``"Poisson"``, ``"Gamma"``, ``"Gaussian"``, ``"Bernoulli"``, ``"NegativeBinomial"`` (with a dispersion held at
        1; pass an instance with another, or with ``scale="estimate"``), or an instance.
    inverse_link_function : str or callable, optional
        Maps the linear predictor to the mean. By default that of the observation model: ``exp`` for counts,
        ``one_over_x`` for Gamma, ``identity`` for Gaussian, ``logistic`` for Bernoulli.
    regularizer : str or Regularizer, optional
        ``"UnRegularized"`` (default), ``"Ridge"``, ``"Lasso"``, ``"ElasticNet"``, ``"GroupLasso"``, or an instance.
    regularizer_strength : float, array or pytree, optional
        Strength of the penalty, one number or one per coefficient; (strength, ratio) for ElasticNet. 1.0 with a warning
        where it is needed and not given.
    solver_name : str, optional
        LBFGS by default, ProximalGradient for penalties with kinks. See `bayesglm.solvers`.
    solver_kwargs : dict, optional
        Arguments of the solver, such as ``tol`` and ``maxiter``; see
        :func:`bayesglm.solvers.get_solver_documentation`.

    Attributes
    ----------
    coef_ : array (features,), or a pytree of these
        Coefficients in the structure of X.
    intercept_ : array (1,)
    scale_ : array (1,)
        Dispersion of the response, estimated from the residuals; after :meth:`sample_posterior` with priors that `fit`
        does not know, its posterior median.
    dof_resid_ : array
        Residual degrees of freedom.
    solver_state_
        How the fit ended.

    References
    ----------
    McCullagh, Nelder (1989), Generalized Linear Models. doi:10.1007/978-1-4899-3242-6

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> rng = np.random.default_rng(1)
    >>> X = rng.normal(size=(500, 3))
    >>> y = rng.poisson(np.exp(X @ [0.5, 0.0, -0.5]))
    >>> model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=0.01).fit(X, y)
    >>> model.coef_.shape
    (3,)
    """

    def __init__(
        self,
        observation_model="Poisson",
        inverse_link_function=None,
        regularizer=None,
        regularizer_strength=None,
        solver_name=None,
        solver_kwargs=None,
    ):
        self._configure(
            observation_model,
            inverse_link_function,
            regularizer,
            regularizer_strength,
            solver_name,
            solver_kwargs,
        )


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

    _population = True

    def __init__(
        self,
        observation_model="Poisson",
        inverse_link_function=None,
        regularizer="UnRegularized",
        regularizer_strength=None,
        solver_name=None,
        solver_kwargs=None,
        feature_mask=None,
    ):
        self._configure(
            observation_model,
            inverse_link_function,
            regularizer,
            regularizer_strength,
            solver_name,
            solver_kwargs,
            feature_mask,
        )

    @property
    def feature_mask(self):
        """Which features predict which neuron, or None for all."""
        return self._feature_mask

    @feature_mask.setter
    def feature_mask(self, value):
        self._set_mask(value)


class ClassifierGLM(ClassifierEstimator, GLM):
    """Softmax regression: a generalized linear model of class labels.

    Every class has its own coefficients (the symmetric form), which a penalty makes unique; without
    one, and always for the intercepts, the solution that sums to zero over the classes is returned.

    Parameters
    ----------
    n_classes : int
        Number of classes, at least 2.
    inverse_link_function : callable, optional
        ``log_softmax`` by default.
    regularizer : str or Regularizer, optional
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
        self,
        n_classes=2,
        inverse_link_function=None,
        regularizer=None,
        regularizer_strength=None,
        solver_name=None,
        solver_kwargs=None,
    ):
        self.n_classes = n_classes
        self._configure(
            "Categorical",
            inverse_link_function,
            regularizer,
            regularizer_strength,
            solver_name,
            solver_kwargs,
        )


class ClassifierPopulationGLM(ClassifierEstimator, PopulationGLM):
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
        self,
        n_classes=2,
        inverse_link_function=None,
        regularizer=None,
        regularizer_strength=None,
        solver_name=None,
        solver_kwargs=None,
        feature_mask=None,
    ):
        self.n_classes = n_classes
        self._configure(
            "Categorical",
            inverse_link_function,
            regularizer,
            regularizer_strength,
            solver_name,
            solver_kwargs,
            feature_mask,
        )
