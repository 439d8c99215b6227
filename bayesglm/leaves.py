"""From the columns of a matrix to a dict of matrices, inside a scikit-learn pipeline."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from bayesglm._input import column_names, did_you_mean

__all__ = ["Leaves"]


class Leaves(TransformerMixin, BaseEstimator):
    """Turn columns into a dict of matrices, the leaves of X.

    scikit-learn's splitters and searches cut X into rows and cannot do so with a dict. Give them the matrix or data
    frame that the leaves are columns of, and let a pipeline take it apart.

    Parameters
    ----------
    leaves : dict
        For each leaf its columns: a list of names or positions, one name or position, or a slice of positions. Other
        columns are left out.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : array (features,)
        Only after a data frame.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesglm as nmo
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> rng = np.random.default_rng(1)
    >>> X, y = rng.normal(size=(100, 5)), rng.poisson(1.0, size=100)
    >>> leaves = nmo.Leaves({"stimulus": [0, 1], "history": slice(2, 5)})
    >>> model = make_pipeline(leaves, nmo.glm.GLM()).fit(X, y)
    >>> {name: coef.shape for name, coef in model[-1].coef_.items()}
    {'history': (3,), 'stimulus': (2,)}
    >>> cross_val_score(model, X, y, cv=3).shape
    (3,)
    """

    def __init__(self, leaves):
        self.leaves = leaves

    def fit(self, X, y=None):
        """Check that X has the columns of all leaves.

        Raises
        ------
        TypeError
            If `leaves` is not a dict.
        ValueError
            If it is empty, or a column does not exist.
        """
        if not isinstance(self.leaves, dict):
            raise TypeError(
                f"`leaves` must be a dict from the name of a leaf to its columns, but {self.leaves!r} was given."
            )
        if not self.leaves:
            raise ValueError("`leaves` is empty; give at least one leaf with its columns.")
        names, width = column_names(X), np.shape(X)[1]
        for leaf, columns in self.leaves.items():
            if not isinstance(columns, slice):
                _check_columns(leaf, _listed(columns), names, width)
        self.n_features_in_ = width
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def transform(self, X):
        """Return the dict of matrices (samples, columns of the leaf), each of the kind of X.

        Raises
        ------
        ValueError
            If X has other columns than in :meth:`fit`.
        """
        check_is_fitted(self, "n_features_in_")
        names, fitted = column_names(X), getattr(self, "feature_names_in_", None)
        if np.shape(X)[1] != self.n_features_in_ or (
            names is not None and fitted is not None and list(names) != list(fitted)
        ):
            raise ValueError(
                f"X has {np.shape(X)[1]} columns ({_shown(names)}), but `fit` saw {self.n_features_in_} "
                f"({_shown(fitted)}). Select the columns by name, in the order of `fit`."
            )
        return {
            leaf: _safe_indexing(
                X, columns if isinstance(columns, slice) else _listed(columns), axis=1
            )
            for leaf, columns in self.leaves.items()
        }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _listed(columns) -> list:
    return [columns] if isinstance(columns, (str, int, np.integer)) else list(columns)


def _check_columns(leaf, columns, names, width: int) -> None:
    for each in columns:
        if isinstance(each, str):
            known = names is not None and each in names
            hint = "X has no column names" if names is None else f"there are {_shown(names)}"
            hint += did_you_mean(each, names or ())
        else:
            known, hint = -width <= each < width, f"X has {width} columns"
        if not known:
            raise ValueError(f"The column {each!r} of the leaf {leaf!r} does not exist: {hint}.")


def _shown(names, most: int = 5) -> str:
    if names is None:
        return "without names"
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
