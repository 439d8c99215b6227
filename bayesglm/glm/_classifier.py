"""What classifiers have beyond the other estimators: labels and class probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayesglm._input import is_one_of, to_labels
from bayesglm.glm import _traced
from bayesglm.glm._configuration import of_fit
from bayesglm.glm._estimator import Estimator
from bayesglm.glm._parameters import shown
from bayesglm.labels import LabelEncoder


class _Default(str):
    """A default that can be told from the same text given by the user."""


_LOG_PROBA = _Default("log-proba")


def _check_return_type(return_type) -> None:
    if not is_one_of(return_type, ("log-proba", "proba")):
        raise ValueError(
            f"`return_type` must be 'log-proba' or 'proba', but {return_type!r} was given."
        )


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
        self._proba_output = return_type
        return self

    @of_fit
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
        return_type = self._proba_output if return_type is _LOG_PROBA else return_type
        _check_return_type(return_type)
        if not is_one_of(average, ("map", "posterior")):
            raise ValueError(f"`average` must be 'map' or 'posterior', but {average!r} was given.")
        self._require_fit()
        self._require_classes("predict_proba")
        if average == "posterior":
            proba = self._mean_probability(X, offset)
            return self._like_input(
                X, jnp.asarray(proba if return_type == "proba" else np.log(proba))
            )
        if _traced.is_traced(X) and offset is None:
            log_proba = _traced.mean(self, X)
            return log_proba if return_type == "log-proba" else jnp.exp(log_proba)
        with jax.enable_x64(True):
            rate = self._rate(*self._fitted(X), offset)
            if return_type == "proba":
                rate = np.exp(rate)
                rate = rate / rate.sum(axis=-1, keepdims=True)
        return self._like_input(X, shown(rate))
