"""The edge: what users pass to a method, checked once for each call, against a fit where there is one."""

from __future__ import annotations

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from bayesglm import _design
from bayesglm._design import Design
from bayesglm._input import check_names, require_y
from bayesglm.glm._problem import Problem
from bayesglm.glm._rows import Rows, checked
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit


def problem_of(settings: Settings, X, y, classes=None, sample_weight=None, offset=None) -> Problem:
    """Return the problem of rows for a new fit.

    Parameters
    ----------
    classes : array (n_classes,), optional
        Known labels, for a classifier.
    """
    require_y(y)
    design = Design.of(X)
    rows, layout = checked(design, y, settings, classes, sample_weight, offset)
    return Problem.of(rows, layout, settings)


def known(problem: Problem, fit: Fit) -> Problem:
    """Return the problem with the strengths that a fit has learned, where they are to be.

    Raises
    ------
    ValueError
        If it has learned none.
    """
    if problem.scales is None:
        return problem
    if fit.learned is None:
        raise ValueError(
            "The strength of the regularizer is to be learned, which `fit` does: call it first, or give a number as "
            "`regularizer_strength`."
        )
    return problem.with_factors(fit.learned.factors(problem.outputs))


def fitted_problem(rows: Rows, fit: Fit) -> Problem:
    """Return the problem that a fit has solved, with its strengths."""
    return known(Problem.of(rows, fit.layout, fit.settings), fit)


def rows_of(fit: Fit, X, y, sample_weight=None, offset=None) -> Rows:
    """Return rows with the features and responses of a fit.

    Raises
    ------
    TypeError, ValueError
        If they are others, or :func:`bayesglm.glm._rows.checked` refuses them.
    """
    require_y(y)
    design = _features(fit, X)
    fit.layout.check_neurons(y)
    known = fit.settings, fit.layout.classes
    rows, layout = checked(design, y, *known, sample_weight, offset)
    if layout.n_neurons != fit.layout.n_neurons:
        raise ValueError(
            f"Inconsistent number of neurons: `y` has {layout.n_neurons}, the model {fit.layout.n_neurons}."
        )
    return rows


def new_rows(fit: Fit, X, offset=None, dtype=None):
    """Return features of a fit, in their own precision or another, and an offset that fits beside the predictor."""
    design = _features(fit, X)
    matrix = design.matrix if dtype is None else design.matrix.astype(dtype, copy=False)
    layout = fit.layout
    return matrix, layout.beside(layout.offset(offset, design.n_samples, matrix.dtype))


def check_structure(fit: Fit, problem: Problem) -> None:
    """Raise a TypeError if features have another structure than those of an earlier fit."""
    design, layout = problem.rows.design, fit.layout
    if fit.coef is None or (layout.structure, layout.widths) == (design.structure, design.widths):
        return
    raise TypeError(
        f"X has the structure {design.structure} with {design.widths} features, but this estimator was fitted to "
        f"{layout.structure} with {layout.widths}. Use a new estimator or `sklearn.base.clone`."
    )


def _features(fit: Fit, X) -> Design:
    design = Design.of(X)
    if design.structure == fit.layout.structure:
        _check_feature_names(fit, design)
    fit.check(design)
    return design


def _check_feature_names(fit: Fit, design: Design) -> None:
    layout, kind = fit.layout, fit.settings.kind
    fitted, given = layout.names.features or (None,) * len(design.widths), design.names
    if jax.tree.structure(0) != design.structure:
        for mine, theirs, leaf in zip(
            fitted, given, _design.leaf_names(design.structure), strict=True
        ):
            check_names(theirs, mine, f"columns of X[{leaf!r}]")
    elif fitted != given:
        _as_scikit_learn_does(kind, fitted[0], given[0], layout.n_features, design.n_features)
    if design.n_features != layout.n_features:
        raise ValueError(
            f"Inconsistent number of features: X has {design.n_features} features, but {kind} is expecting "
            f"{layout.n_features} features as input, as many as `coef_` has."
        )


def _as_scikit_learn_does(kind: str, fitted, given, n_fitted: int, n_given: int) -> None:
    """Compare names by scikit-learn's own rules, with its messages, whatever kind of data frame has them."""
    import pandas as pd

    model = type(kind, (BaseEstimator,), {})()  # what scikit-learn reads of an estimator
    model.n_features_in_ = n_fitted
    if fitted is not None:
        model.feature_names_in_ = np.array(fitted, dtype=object)
    like = np.empty((0, n_given)) if given is None else pd.DataFrame(columns=list(given))
    validate_data(model, like, reset=False, skip_check_array=True)
