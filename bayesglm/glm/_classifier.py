"""What classifiers have beyond the other estimators: labels and class probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._input import to_labels
from bayesglm.glm._configuration import of_fit
from bayesglm.glm._estimator import Estimator
from bayesglm.labels import LabelEncoder


class ClassifierEstimator(Estimator):
    """An estimator whose responses are class labels."""

    _classifier = True

    @property
    def n_classes(self) -> int:
        """Number of classes. Setting it discards the labels."""
        return self._encoder.n_classes

    @n_classes.setter
    def n_classes(self, value):
        self._encoder = LabelEncoder(value)

    @property
    def classes_(self):
        """Class labels in the order of the columns of the coefficients, or None if not known yet."""
        return self._encoder.classes_

    @classes_.setter
    def classes_(self, value):
        if value is None:
            self._encoder.reset()
        else:
            self._encoder.set_classes(value)

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
        self._encoder.set_classes(to_labels(y))
        return self

    @of_fit
    def predict_proba(self, X, return_type="log-proba", *, average="map", offset=None):
        """Return the probability of each class.

        Parameters
        ----------
        X : array (samples, features), or a pytree of these
        return_type
            ``"log-proba"`` or ``"proba"``.
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
        if return_type not in ("log-proba", "proba"):
            raise ValueError(
                f"`return_type` must be 'log-proba' or 'proba', but {return_type!r} was given."
            )
        if average not in ("map", "posterior"):
            raise ValueError(f"`average` must be 'map' or 'posterior', but {average!r} was given.")
        self._require_fit()
        self._require_classes("predict_proba")
        if average == "posterior":
            proba = self._mean_probability(X, offset)
            return self._like_input(
                X, jnp.asarray(proba if return_type == "proba" else np.log(proba))
            )
        with jax.enable_x64(True):
            rate = self._rate(*self._fitted(X), offset)
            if return_type == "proba":
                rate = np.exp(rate)
                rate = rate / rate.sum(axis=-1, keepdims=True)
        return self._like_input(X, jnp.asarray(rate))
