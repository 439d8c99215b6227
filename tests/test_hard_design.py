"""Designs as they come from experiments: correlated, badly scaled, sparse responses, nothing standardised.

The default settings must reach the optimum to a thousandth of a standard error, or warn. Reference optima are those
of Newton's method on textbook losses (see `reference`).
"""

import warnings

import numpy as np
import pytest
from reference import Problem, fitted

import bayesglm as nmo

N, P, RATE = 5000, 20, 0.05
# What is promised, in standard errors of the estimates. float32 has seven digits for sums over thousands of rows, which
# leaves it about two of those of a standard error.
CLOSE, CLOSE_FLOAT32 = 1e-3, 1e-2

#: Ridge moves some coefficients by several standard errors here, Lasso sets some to zero.
STRENGTHS = {"UnRegularized": None, "Ridge": 1e-3, "Lasso": 2e-3}
MORE_STRENGTHS = STRENGTHS | {"ElasticNet": (2e-3, 0.5), "GroupLasso": 2e-3}


def correlated(rng, n=N, p=P):
    """Columns that are an AR(1) process with correlation 0.95, scales from 1 to 30 in random order."""
    noise, X = rng.normal(size=(n, p)), np.empty((n, p))
    X[:, 0] = noise[:, 0]
    for j in range(1, p):
        X[:, j] = 0.95 * X[:, j - 1] + np.sqrt(1 - 0.95**2) * noise[:, j]
    return X * rng.permutation(np.geomspace(1, 30, p))


def predictor(rng, X, modulation):
    """Random coefficients that give the log rate this standard deviation, and the mean rate its value."""
    eta = X @ (rng.normal(size=X.shape[1]) / X.std(axis=0))
    eta *= modulation / eta.std()
    return eta + np.log(RATE) - np.log(np.mean(np.exp(eta)))


def place_cells(rng):
    """Position on a track of 100 cm and its square; a field far from the ends."""
    position = 50 + 45 * np.sin(np.cumsum(rng.normal(0, 0.05, N)))
    eta = -0.5 * ((position - 70) / 12) ** 2 + np.log(0.3)
    return np.column_stack([position, position**2]), eta


def make(kind, rng):
    """Features and log rates."""
    if kind == "place cell":
        return place_cells(rng)
    X = correlated(rng)
    eta = predictor(rng, X, 2.5 if kind == "strongly modulated" else 1.0)
    return (X + 100.0 if kind == "large means" else X), eta


DESIGNS = ("plain", "strongly modulated", "large means", "place cell")


def counts(kind, rng):
    X, eta = make(kind, rng)
    return X, rng.poisson(np.exp(eta)).astype(float)


def fit(model, X, y):
    """Fit, and return whether it warned that it did not converge; any other warning is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    for warning in caught:
        assert "did not converge" in str(warning.message)
    return bool(caught)


def count_problem(X, y, kind):
    return Problem("Poisson", "exp", X, y, kind, STRENGTHS[kind])


def count_optimum(problem):
    return problem.stationary_point(problem.start(np.log(RATE)))


def count_model(kind, solver=None):
    return nmo.glm.GLM("Poisson", None, kind, STRENGTHS[kind], solver_name=solver)


@pytest.mark.parametrize("kind", ["UnRegularized", "Ridge"])
@pytest.mark.parametrize("solver", ["LBFGS", "BFGS", "ProximalGradient"])
@pytest.mark.parametrize("design", DESIGNS)
def test_default_settings_reach_the_optimum_on_a_hard_design(design, solver, kind, rng):
    X, y = counts(design, rng)
    problem = count_problem(X, y, kind)
    optimum = count_optimum(problem)
    model = count_model(kind, solver)
    assert not fit(model, X, y)
    assert problem.distance(problem.theta(*fitted(model)), optimum) <= CLOSE


@pytest.mark.parametrize("design", DESIGNS)
def test_default_settings_reach_a_sparse_optimum_on_a_hard_design(design, rng):
    X, y = counts(design, rng)
    model = count_model("Lasso")
    assert not fit(model, X, y)
    problem = count_problem(X, y, "Lasso")
    found = problem.theta(*fitted(model))
    # The support is the fit's own; Newton's method on it proves that it is the right one.
    assert problem.distance(found, problem.stationary_point(found, below=0.0)) <= CLOSE


@pytest.mark.parametrize("kind", ["UnRegularized", "Ridge"])
@pytest.mark.parametrize("solver", ["NonlinearCG", "GradientDescent", "SVRG", "ProxSVRG"])
@pytest.mark.parametrize("design", ["plain", "strongly modulated"])
def test_every_other_solver_reaches_the_optimum_or_warns(design, solver, kind, rng):
    X, y = counts(design, rng)
    problem = count_problem(X, y, kind)
    model = count_model(kind, solver)
    try:
        warned = fit(model, X, y)
    except ValueError:  # the documented answer to a step that diverges
        assert model.coef_ is None
        return
    if not warned:
        assert problem.distance(problem.theta(*fitted(model)), count_optimum(problem)) <= CLOSE


@pytest.mark.parametrize("kind", STRENGTHS)
@pytest.mark.parametrize("design", DESIGNS[:3])
def test_float32_reaches_the_optimum_or_warns(design, kind, rng):
    X, y = counts(design, rng)
    X = X.astype(np.float32)
    problem = count_problem(X, y, kind)
    for solver in (
        ["LBFGS", "BFGS", "ProximalGradient"] if kind != "Lasso" else ["ProximalGradient"]
    ):
        model = count_model(kind, solver)
        if not fit(model, X, y):
            found = problem.theta(*fitted(model))
            optimum = (
                problem.stationary_point(found, 1e-5) if kind == "Lasso" else count_optimum(problem)
            )
            assert problem.distance(found, optimum) <= CLOSE_FLOAT32


@pytest.mark.parametrize("solver", ["LBFGS", "BFGS", "ProximalGradient"])
def test_binary_responses_reach_the_optimum_on_a_hard_design(solver, rng):
    X, eta = make("plain", rng)
    y = rng.binomial(1, np.minimum(np.exp(eta), 1.0)).astype(float)
    problem = Problem("Bernoulli", "logistic", X, y)
    model = nmo.glm.GLM("Bernoulli", solver_name=solver)
    assert not fit(model, X, y)
    optimum = problem.stationary_point(problem.start(np.log(RATE)))
    assert problem.distance(problem.theta(*fitted(model)), optimum) <= CLOSE


@pytest.mark.parametrize("kind", MORE_STRENGTHS)
def test_labels_reach_the_optimum_on_a_hard_design(kind, rng):
    X = correlated(rng)
    eta = np.column_stack([predictor(rng, X, 1.0) for _ in range(3)])
    y = np.argmax(eta + rng.gumbel(size=eta.shape), axis=1)
    problem = Problem("Categorical", "softmax", X, y, kind, MORE_STRENGTHS[kind], n_classes=3)
    model = nmo.glm.ClassifierGLM(3, None, kind, MORE_STRENGTHS[kind])
    assert not fit(model, X, y)
    found = problem.theta(*fitted(model))
    # Newton's method starts from zero where the objective is smooth; else it proves the support of the fit.
    start = problem.start(0.0) if kind in ("UnRegularized", "Ridge") else found
    assert problem.distance(found, problem.stationary_point(start)) <= CLOSE


@pytest.mark.parametrize("kind", STRENGTHS)
def test_a_population_of_hard_neurons_equals_single_fits(kind, rng):
    X = correlated(rng)
    y = np.column_stack([rng.poisson(np.exp(predictor(rng, X, 1.0))) for _ in range(5)]).astype(
        float
    )
    population = nmo.glm.PopulationGLM("Poisson", None, kind, STRENGTHS[kind])
    assert not fit(population, X, y)
    coef, intercept = fitted(population)
    for k in range(5):
        single = count_model(kind)
        assert not fit(single, X, y[:, k])
        problem = count_problem(X, y[:, k], kind)
        theta, other = problem.theta(coef[:, k], intercept[k]), problem.theta(*fitted(single))
        optimum = problem.stationary_point(theta)
        assert problem.distance(theta, optimum) <= CLOSE
        assert problem.distance(other, optimum) <= CLOSE
        # Each stops at an estimated 1e-6 standard errors; the estimate is good to a small factor.
        assert problem.distance(theta, other) <= 1e-4
