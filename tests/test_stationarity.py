"""Fitted coefficients are the optimum, by derivatives of textbook losses.

The reference point is Newton's in float64 (see `reference`), which proves its own stationarity: the
optimum where the loss is convex, otherwise the stationary point next to the fit, a local minimum.
"""

import numpy as np
import pytest
import tables
from reference import Problem, fitted

import bayesglm as nmo

# The promise. Solvers stop at 1e-6 standard errors, which for 200 rows are about 0.1 in units of the coefficients.
ATOL = 1e-6

PAIRS = [(family, link) for family, links in tables.FAMILY_LINKS.items() for link in links]
SOLVER_CASES = [(solver, kind) for solver, kinds in tables.SOLVERS.items() for kind in kinds]
# Some hundreds of epochs of 200 steps each.
STOCHASTIC = {"SVRG", "ProxSVRG"}


def assert_at_optimum(problem, coef, intercept):
    """The parameters are those of a stationary point, at which the objective curves upwards."""
    found = problem.theta(coef, intercept)
    optimum = problem.stationary_point(found)
    free = np.append(
        problem.penalty.support(optimum[:-1], 0.0), np.ones((1, problem.C), bool), axis=0
    ).ravel()
    curvature = np.linalg.eigvalsh(problem.derivatives(optimum)[1][np.ix_(free, free)])
    assert curvature.min() > -1e-12  # a softmax is flat along a common shift of its intercepts
    best_coef, best_intercept = problem.params(optimum)
    np.testing.assert_allclose(np.reshape(coef, best_coef.shape), best_coef, rtol=0, atol=ATOL)
    np.testing.assert_allclose(
        np.ravel(intercept) - np.mean(intercept) * (problem.C > 1),
        best_intercept - np.mean(best_intercept) * (problem.C > 1),
        rtol=0,
        atol=ATOL,
    )


def assert_columns_at_optimum(model, family, link, kind, y):
    coef, intercept = fitted(model)
    strength = tables.REGULARIZERS[kind]
    n_classes = 1 if family != "Categorical" else tables.N_CLASSES
    for k in range(y.shape[1]):
        problem = Problem(family, link, tables.X, y[:, k], kind, strength, n_classes)
        assert_at_optimum(problem, coef[:, k], intercept[k])


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_default_solver_ends_at_the_optimum_for_every_family_and_link(family, link, kind):
    y = tables.RESPONSES[family]
    model = nmo.glm.PopulationGLM(family, link, kind, tables.REGULARIZERS[kind]).fit(tables.X, y)
    assert_columns_at_optimum(model, family, link, kind, y)


#: Where Newton's method starts: a mean of one for every family.
START = {
    "exp": 0.0,
    "softplus": 0.5,
    "identity": 1.0,
    "one_over_x": 1.0,
    "logistic": 0.0,
    "norm_cdf": 0.0,
}


@pytest.mark.parametrize("kind", tables.SMOOTH)
@pytest.mark.parametrize(
    ("family", "link"), [pair for pair in PAIRS if pair not in tables.NOT_CONVEX]
)
def test_default_solver_finds_what_newton_finds_from_elsewhere(family, link, kind):
    y, strength = tables.RESPONSES[family], tables.REGULARIZERS[kind]
    model = nmo.glm.PopulationGLM(family, link, kind, strength).fit(tables.X, y)
    coef, intercept = fitted(model)
    for k in range(tables.N_NEURONS):
        problem = Problem(family, link, tables.X, y[:, k], kind, strength)
        best = problem.params(problem.stationary_point(problem.start(START[link])))
        np.testing.assert_allclose(coef[:, k], best[0][:, 0], rtol=0, atol=ATOL)
        np.testing.assert_allclose(intercept[k], best[1][0], rtol=0, atol=ATOL)


def slow_if_stochastic(cases):
    marks = lambda case: [pytest.mark.slow] if STOCHASTIC & set(case) else []  # noqa: E731
    return [pytest.param(*case, marks=marks(case)) for case in cases]


@pytest.mark.parametrize(("solver", "kind"), slow_if_stochastic(SOLVER_CASES))
@pytest.mark.parametrize("face", ["GLM", "PopulationGLM"])
def test_every_solver_ends_at_the_optimum_of_counts(face, solver, kind):
    y = tables.RESPONSES["Poisson"]
    kwargs = {
        "regularizer": kind,
        "regularizer_strength": tables.REGULARIZERS[kind],
        "solver_name": solver,
    }
    if face == "GLM":
        model = nmo.glm.GLM("Poisson", **kwargs).fit(tables.X, y[:, 0])
        coef, intercept = fitted(model)
        problem = Problem("Poisson", "exp", tables.X, y[:, 0], kind, tables.REGULARIZERS[kind])
        assert_at_optimum(problem, coef, intercept)
    else:
        model = nmo.glm.PopulationGLM("Poisson", **kwargs).fit(tables.X, y)
        assert_columns_at_optimum(model, "Poisson", "exp", kind, y)


@pytest.mark.parametrize(("solver", "kind"), slow_if_stochastic(SOLVER_CASES))
@pytest.mark.parametrize("face", ["ClassifierGLM", "ClassifierPopulationGLM"])
def test_every_solver_ends_at_the_optimum_of_labels(face, solver, kind):
    y = tables.LABELS
    kwargs = {
        "regularizer": kind,
        "regularizer_strength": tables.REGULARIZERS[kind],
        "solver_name": solver,
    }
    if face == "ClassifierGLM":
        model = nmo.glm.ClassifierGLM(tables.N_CLASSES, **kwargs).fit(tables.X, y[:, 0])
        coef, intercept = fitted(model)
        strength = tables.REGULARIZERS[kind]
        problem = Problem(
            "Categorical", "softmax", tables.X, y[:, 0], kind, strength, tables.N_CLASSES
        )
        assert_at_optimum(problem, coef, intercept)
    else:
        model = nmo.glm.ClassifierPopulationGLM(tables.N_CLASSES, **kwargs).fit(tables.X, y)
        assert_columns_at_optimum(model, "Categorical", "softmax", kind, y)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "kind"), [case for case in SOLVER_CASES if case[0] in STOCHASTIC]
)
@pytest.mark.parametrize("face", ["GLM", "PopulationGLM"])
def test_steps_from_theory_end_at_the_optimum(face, solver, kind):
    y = tables.RESPONSES["Poisson"]
    kwargs = {
        "regularizer": kind,
        "regularizer_strength": tables.REGULARIZERS[kind],
        "solver_name": solver,
    }
    if face == "GLM":
        model = nmo.glm.GLM("Poisson", "softplus", **kwargs).fit(tables.X, y[:, 0])
        coef, intercept = fitted(model)
        problem = Problem("Poisson", "softplus", tables.X, y[:, 0], kind, tables.REGULARIZERS[kind])
        assert_at_optimum(problem, coef, intercept)
    else:
        model = nmo.glm.PopulationGLM("Poisson", "softplus", **kwargs).fit(tables.X, y)
        assert_columns_at_optimum(model, "Poisson", "softplus", kind, y)


KINKED = [kind for kind in tables.REGULARIZERS if kind not in tables.SMOOTH]


@pytest.mark.parametrize("kind", KINKED)
@pytest.mark.parametrize(("family", "link"), [*PAIRS, ("Categorical", "softmax")])
def test_the_weight_of_near_copies_of_a_feature_is_split_as_the_optimum_does(
    family, link, kind, rng
):
    """A penalty that moves little leaves both of the pair, or the one that a curvature of 1e-2 to 1e-10 asks for."""
    strength = tables.REGULARIZERS[kind]
    strength = (strength[0] / 30, strength[1]) if kind == "ElasticNet" else strength / 30
    classes = family == "Categorical"
    y = tables.LABELS if classes else tables.RESPONSES[family]
    for apart in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        X = tables.X.copy()
        X[:, 3] = X[:, 0] + apart * rng.normal(size=len(X))
        model = (
            nmo.glm.ClassifierPopulationGLM(tables.N_CLASSES, None, kind, strength)
            if classes
            else nmo.glm.PopulationGLM(family, link, kind, strength)
        ).fit(X, y)
        coef, intercept = fitted(model)
        for k in range(tables.N_NEURONS):
            n_classes = tables.N_CLASSES if classes else 1
            problem = Problem(family, link, X, y[:, k], kind, strength, n_classes)
            found = problem.theta(coef[:, k], intercept[k])
            # It is its own support that is proven to be right. The floor of float64 (`solvers._run`).
            assert problem.distance(found, problem.stationary_point(found, below=0.0)) <= 1e-3
