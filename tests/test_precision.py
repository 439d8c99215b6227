"""The dtype of X decides in what precision is computed, and no global flag what comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faces import COUNTS, FACES, both
from tables import X

from bayesglm.glm import GLM


@pytest.fixture
def set_flag():
    """Set JAX's global flag, and put it back."""
    before = jax.config.jax_enable_x64
    yield lambda value: jax.config.update("jax_enable_x64", value)
    jax.config.update("jax_enable_x64", before)


def everything(estimator, rows, y):
    """Numbers of all public methods."""
    params = estimator.initialize_params(rows, y)
    found = {
        "coef_": estimator.coef_,
        "intercept_": estimator.intercept_,
        "scale_": estimator.scale_,
        "dof_resid_": estimator.dof_resid_,
        "initialize_params": params,
        "compute_loss": estimator.compute_loss(params, rows, y),
        "predict": estimator.predict(rows),
        "score": estimator.score(rows, y),
        "score by neuron": estimator.score(
            rows, y, aggregate_sample_scores=lambda s: jnp.mean(s, axis=0)
        ),
        "McFadden": estimator.score(rows, y, score_type="pseudo-r2-McFadden"),
        "Cohen": estimator.score(rows, y, score_type="pseudo-r2-Cohen"),
        "simulate": estimator.simulate(jax.random.key(0), rows)[1],
    }
    if hasattr(estimator, "predict_proba"):
        found["predict_proba"] = estimator.predict_proba(rows)
        found["proba"] = estimator.predict_proba(rows, return_type="proba")
    return found


PARAMETERS = {"coef_", "intercept_", "scale_", "dof_resid_", "initialize_params"}


@pytest.mark.parametrize("face", ["PopulationGLM", "ClassifierGLM"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_results_have_the_default_dtype_and_do_not_depend_on_the_flag(face, precision, set_flag):
    make, y, _ = FACES[face]
    rows = X.astype(precision)
    found = {}
    for flag, dtype in ((False, "float32"), (True, "float64")):
        set_flag(flag)
        estimator = make().fit(rows, y)
        found[flag] = everything(estimator, rows, y)
        assert jax.config.jax_enable_x64 is flag
        assert jnp.zeros(1).dtype == dtype
        for name, value in found[flag].items():
            # what is computed row by row from single precision may stay in it
            by_row = precision == "float32" and name not in PARAMETERS
            for leaf in jax.tree.leaves(value):
                labels = jnp.issubdtype(leaf.dtype, jnp.integer)
                assert labels or str(leaf.dtype) in {dtype, "float32" if by_row else dtype}, name
    for name, value in found[True].items():
        # the same numbers, rounded
        for one, other in zip(
            jax.tree.leaves(value), jax.tree.leaves(found[False][name]), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(one).astype(other.dtype), other, err_msg=name)


@pytest.mark.parametrize("face", FACES)
def test_single_precision_agrees_with_double(face):
    make, y, _ = FACES[face]
    double, single = make().fit(X, y), make().fit(X.astype(np.float32), y)
    # single precision counts as converged at 1e-2 standard errors, which are about 0.1 here
    np.testing.assert_allclose(both(single), both(double), atol=2e-3)
    assert single.score(X, y) == pytest.approx(float(double.score(X, y)), abs=1e-4)


def test_integers_and_booleans_are_computed_in_double_precision():
    whole = np.round(2 * X)
    expected = GLM().fit(whole, COUNTS)
    np.testing.assert_array_equal(
        GLM().fit(whole.astype(int), COUNTS.astype(int)).coef_, expected.coef_
    )
    found = GLM("Bernoulli").fit(X > 0, COUNTS > 0)
    expected = GLM("Bernoulli").fit((X > 0).astype(float), (COUNTS > 0).astype(float))
    np.testing.assert_array_equal(found.coef_, expected.coef_)
