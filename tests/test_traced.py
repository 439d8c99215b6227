"""Losses and means are functions that JAX can differentiate: the same numbers, and derivatives as they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables

import bayesglm as nmo

N, P, NEURONS, CLASSES = 30, tables.N_FEATURES, tables.N_NEURONS, tables.N_CLASSES
X = tables.X[:N].copy()
X[4, 1] = np.nan
MASK = np.ones((P, NEURONS), int)
MASK[0, 1] = 0
CASES = {
    **{
        f"{family}, {link}": (lambda f=family, k=link: nmo.glm.PopulationGLM(f, k), family)
        for family, names in tables.FAMILY_LINKS.items()
        for link in names
    },
    "one neuron": (lambda: nmo.glm.GLM(), "Poisson"),
    "masked": (lambda: nmo.glm.PopulationGLM(feature_mask=MASK), "Poisson"),
    "scaled": (
        lambda: nmo.glm.PopulationGLM(
            nmo.observation_models.NegativeBinomialObservations(scale=0.3)
        ),
        "NegativeBinomial",
    ),
    "classes": (lambda: nmo.glm.ClassifierGLM(CLASSES), "labels"),
    "classes of many": (lambda: nmo.glm.ClassifierPopulationGLM(CLASSES), "labels"),
}


def case(name):
    make, family = CASES[name]
    model = make()
    y = tables.LABELS[:N] if family == "labels" else tables.RESPONSES[family][:N].copy()
    single = isinstance(model, nmo.glm.GLM) and not isinstance(model, nmo.glm.PopulationGLM)
    if family == "labels":
        model.set_classes(tables.LABELS)
    else:
        y[7, 0] = np.nan
    y = y[:, 0] if single else y
    outputs = (() if single else (NEURONS,)) + ((CLASSES,) if family == "labels" else ())
    coef = 0.1 * np.random.default_rng(0).normal(size=(P, *outputs))
    # far enough from the edge of the domain of 1/x
    return model, y, (coef, np.full(outputs or (1,), 1.5))


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_a_differentiable_function_of_its_parameters(name):
    model, y, params = case(name)
    with jax.enable_x64(True):
        plain = model.compute_loss(params, X, y)
        value, gradient = jax.value_and_grad(lambda p: model.compute_loss(p, X, y))(params)
        np.testing.assert_allclose(value, plain, rtol=1e-12)
        # along any direction the slope is that of the untraced loss: central differences, error of order step**2
        direction = jax.tree.map(lambda a: np.cos(np.arange(a.size)).reshape(a.shape), params)
        step = 1e-5
        ends = [
            model.compute_loss(
                jax.tree.map(lambda a, d, s=s: a + s * step * d, params, direction), X, y
            )
            for s in (1.0, -1.0)
        ]
        slope = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)
        if name == "masked":
            assert float(gradient[0][0, 1]) == 0


@pytest.mark.parametrize("name", ["one neuron", "classes of many"])
def test_the_loss_has_a_hessian(name):
    """The expected information for canonical links: positive definite but for what a softmax does not see."""
    model, y, params = case(name)
    with jax.enable_x64(True):
        hessian = jax.hessian(lambda c: model.compute_loss((c, params[1]), X, y))(params[0])
        size = params[0].size
        values = np.linalg.eigvalsh(np.asarray(hessian).reshape(size, size))
    free = P * NEURONS if name == "classes of many" else 0
    assert (abs(values[:free]) < 1e-12).all()
    assert (values[free:] > 1e-4).all()


@pytest.mark.parametrize("name", ["one neuron", "masked", "Gamma, one_over_x", "classes"])
def test_means_are_differentiable_functions_of_the_features(name):
    model, _, params = case(name)
    model.coef_, model.intercept_ = params
    method = model.predict_proba if name == "classes" else model.predict
    rows = np.nan_to_num(X)
    with jax.enable_x64(True):
        jacobian = jax.vmap(jax.jacfwd(lambda x: method(x[None])[0]))(jnp.asarray(rows))
        step = 1e-5
        for j in range(P):
            shift = step * np.eye(P)[j]
            change = (np.asarray(method(rows + shift)) - np.asarray(method(rows - shift))) / (
                2 * step
            )
            np.testing.assert_allclose(jacobian[..., j], change, rtol=1e-5, atol=1e-8)


def test_a_tree_of_features_may_be_traced():
    model, y, _ = case("one neuron")
    tree, coef = {"a": X[:, :1], "b": X[:, 1:]}, {"a": np.ones(1), "b": np.zeros(P - 1)}
    with jax.enable_x64(True):
        gradient = jax.grad(lambda c: model.compute_loss((c, np.zeros(1)), tree, y))(coef)
        flat = np.r_[coef["a"], coef["b"]]
        whole = jax.grad(lambda c: model.compute_loss((c, np.zeros(1)), X, y))(flat)
    np.testing.assert_allclose(np.r_[gradient["a"], gradient["b"]], whole, rtol=1e-12)
    with pytest.raises(TypeError, match="structure"):
        jax.grad(lambda c: model.compute_loss((c, np.zeros(1)), X, y))(coef)
