"""Estimators that are saved and loaded."""

import jax
import numpy as np
from tables import X as ALL_ROWS

import bayesglm as nmo

T = 30
X = ALL_ROWS[:T]
_rng = np.random.default_rng(5)


def with_parameters(estimator, outputs, X=X, labels=("left", "right", "stop")):
    """Parameters as a fit leaves them, without the time of one; full of digits."""
    estimator.coef_ = jax.tree.map(lambda leaf: _rng.normal(size=(leaf.shape[1], *outputs)) / 7, X)
    estimator.intercept_ = _rng.normal(size=outputs or (1,)) / 7
    estimator.scale_ = np.full(outputs[:1] or 1, 1 / 3)
    estimator.dof_resid_ = np.full(outputs[:1] or 1, 25.5)
    if hasattr(estimator, "n_classes"):
        estimator.set_classes(labels)
    return estimator


def round_trip(estimator, path, **arguments):
    estimator.save_params(path)
    return nmo.load_model(path, **arguments)


def outputs_of(estimator, X):
    """What the model says about rows, in float64."""
    with jax.enable_x64(True):
        found = [estimator.predict(X)]
        if hasattr(estimator, "predict_proba"):
            found.append(estimator.predict_proba(X))
        return [np.asarray(value) for value in found]


def assert_same_model(found, expected, X=X):
    assert type(found) is type(expected)
    mine, theirs = found.get_params(), expected.get_params()
    assert list(mine) == list(theirs)
    for name in mine:
        assert_same_value(mine[name], theirs[name])
    names = ("coef_", "intercept_", "scale_", "dof_resid_", "classes_")
    with jax.enable_x64(True):
        for name in names:
            assert_same_value(getattr(found, name, None), getattr(expected, name, None))
    if expected.coef_ is not None:
        for one, other in zip(outputs_of(found, X), outputs_of(expected, X), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def assert_same_value(one, other):
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (one, other))
    assert structure == other_structure
    for a, b in zip(leaves, others, strict=True):
        if isinstance(b, (np.ndarray, jax.Array)):
            np.testing.assert_array_equal(a, b)
        elif isinstance(b, (str, int, float)) or callable(b):
            assert a == b
        else:  # observation models and regularizers
            assert type(a) is type(b)
