"""X in a file is read piece by piece, for everything that a fit is asked for, with the results of X in memory."""

import jax
import numpy as np
import pytest
from containers import Guarded
from problems import problem_of
from reference import fitted

import bayesglm as nmo
from bayesglm import _design, rows
from bayesglm._sampling import _passes
from bayesglm.glm import _lanes

N_ROWS, PIECE = 1200, 300
# Sums in another order differ by rounding; fits stop within 1e-6 standard errors, so that standard errors and scores,
# which move with them, agree to some parts in a million.
CLOSE = {"rtol": 1e-5, "atol": 1e-7}


def guarded(X):
    """X as a file of which no pass reads more than a piece."""
    return Guarded(X, PIECE)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(_design, "_READ_BYTES", 3 * 8 * PIECE)
    monkeypatch.setattr("bayesglm.glm._problem._CENTRE_ROWS", 64)
    monkeypatch.setattr("bayesglm.posterior._predict._CHUNK_BYTES", 200 * 8 * PIECE)


def features(rng):
    """Three features, some entries of which are missing, as an array."""
    X = rng.normal(size=(N_ROWS, 3))
    X[17, 1] = np.nan
    X[N_ROWS - 1, 0] = np.inf
    return X


def poisson(rng):
    X = features(rng)
    y = rng.poisson(np.exp(np.nan_to_num(X[:, :2], posinf=0.0) * 0.3)).astype(float)
    model = nmo.glm.PopulationGLM(regularizer="Ridge", regularizer_strength=0.01)
    return model, X, y, {"offset": 0.1 * np.nan_to_num(X[:, 2]), "sample_weight": y * 0 + 1.0}


def gaussian(rng):
    X = features(rng)
    X[:, 2] = X[:, 0] - 2.0 * X[:, 1]  # linearly dependent
    y = 0.3 * np.nan_to_num(X[:, 0], posinf=0.0) + rng.normal(size=N_ROWS)
    return nmo.glm.GLM("Gaussian", solver_name="LBFGS"), X, y, {}


def classes(rng):
    X, y = rng.normal(size=(N_ROWS, 3)), rng.integers(3, size=N_ROWS)
    return nmo.glm.ClassifierGLM(3, regularizer="Ridge", regularizer_strength=0.01), X, y, {}


def numbers(report):
    """Return all that a report knows, as text for what are no numbers."""
    return {name: np.asarray(value) for name, value in report.numbers.items()}


@pytest.mark.parametrize("kind", [poisson, gaussian, classes])
def test_no_result_of_a_fit_needs_all_rows_at_once(rng, kind):
    model, X, y, how = kind(rng)
    memory, file = (model if source is X else kind(rng)[0] for source in (X, None))
    source, groups = guarded(X), {"groups": np.arange(N_ROWS) // 20}
    memory.fit(X, y, **how)
    file.fit(source, y, **how)
    # Along a direction that no data determine, rounding (1e-16) is divided by the damping of the metric (1e-10).
    atol = 1e-5 if kind is gaussian else 2e-7
    close = {**CLOSE, "atol": atol} if kind is gaussian else CLOSE
    for one, other in zip(fitted(memory), fitted(file), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)
    np.testing.assert_allclose(memory.scale_, file.scale_, **CLOSE)
    np.testing.assert_array_equal(memory.dof_resid_, file.dof_resid_)
    new = {k: v for k, v in how.items() if k == "offset"}
    np.testing.assert_allclose(memory.predict(X, **new), file.predict(source, **new), **CLOSE)
    assert np.isclose(memory.score(X, y, **how), file.score(source, y, **how), **CLOSE)
    kinds = [(False, {}), ("HC3", {}), ("CR1", groups), ("CR3", groups), ("HAC", {})]
    for robust, more in kinds[:1] if kind is gaussian else kinds:
        tables = (
            each.summary(data, y, robust=robust, **more, **how).to_numpy(float)
            for each, data in ((memory, X), (file, source))
        )
        np.testing.assert_allclose(*tables, **close)
    one, other = (numbers(m.report(data, y, **how)) for m, data in ((memory, X), (file, source)))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(
            one[name], other[name], rtol=1e-4, atol=max(1e-6, atol), err_msg=name
        )


@pytest.mark.parametrize(("solver", "kind"), [("SVRG", "Ridge"), ("ProxSVRG", "Lasso")])
def test_mini_batches_of_pieces_lead_to_the_optimum(rng, solver, kind):
    """Rows in an order of the features: no piece is like the others. The last one begins with rows of another one."""
    X = rng.normal(size=(N_ROWS - 10, 3))
    X = X[np.argsort(X[:, 0])]
    y = rng.poisson(np.logaddexp(0.0, 1.0 + X[:, :2])).astype(float)
    y[30, 1] = np.nan
    how = {"regularizer": kind, "regularizer_strength": 0.1}
    memory = nmo.glm.PopulationGLM("Poisson", "softplus", **how).fit(X, y)
    file = nmo.glm.PopulationGLM(
        "Poisson", "softplus", solver_name=solver, solver_kwargs={"batch_size": 16}, **how
    )
    file.fit(guarded(X), y)
    assert file.solver_state_.converged.all()
    for one, other in zip(fitted(memory), fitted(file), strict=True):
        # both stop within 1e-6 standard errors, of about 0.03
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-7)


@pytest.mark.parametrize("solver", ["LBFGS", "SVRG"])
def test_steps_one_by_one_read_pieces(rng, solver):
    _, X, y, _ = poisson(rng)
    X[~np.isfinite(X)] = 0.0
    found = []
    for source in (X, guarded(X)):
        model = nmo.glm.PopulationGLM(
            solver_name=solver, regularizer="Ridge", regularizer_strength=0.01
        )
        params = model.initialize_params(source, y)
        state = model.initialize_optimizer_and_state(params, source, y)
        for _ in range(2):
            params, state = model.update(params, state, source, y)
        found.append(params)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_draws_are_used_on_pieces_of_a_file(rng):
    _, X, y, _ = poisson(rng)
    # k-hat of few draws scatters
    draws = {"num_samples": 100, "num_chains": 2, "method": "laplace", "progress_bar": False}
    X[~np.isfinite(X)], y = 0.0, y[:, 0]
    model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=0.01)
    model.sample_posterior(X, y, **draws)
    source, key = guarded(X), jax.random.key(1)
    for results in (
        [model.predict_interval(data) for data in (X, source)],
        [model.predict(data, return_std=True) for data in (X, source)],
        [model.posterior_predictive(key, data) for data in (X, source)],
        [model.loo(data, y).elpd_i.values for data in (X, source)],
    ):
        np.testing.assert_allclose(*results, rtol=1e-12)


def test_a_normal_approximation_is_drawn_from_pieces_of_a_file(rng):
    """Draws scatter by their Monte Carlo error: rounding turns the axes along which they are proposed."""
    _, X, y, _ = poisson(rng)
    means = []
    for source in (X, guarded(X)):
        model = nmo.glm.PopulationGLM(regularizer="Ridge", regularizer_strength=0.01)
        draws = {"num_samples": 100, "num_chains": 2, "method": "laplace", "progress_bar": False}
        coef = model.sample_posterior(source, y, **draws).posterior_["posterior"]["coef"]
        means.append(coef.mean(("chain", "draw")).values)
    sd = coef.std(("chain", "draw")).values
    assert (np.abs(means[0] - means[1]) < 5.0 * sd * np.sqrt(2.0 / 200)).all()


@pytest.mark.parametrize("kind", ["NegativeBinomial", "classes"])
def test_energies_and_curvatures_of_a_file_are_those_of_memory(rng, kind):
    X = rng.normal(size=(N_ROWS, 3))
    offset, weight = 0.1 * X[:, 0], rng.integers(3, size=N_ROWS).astype(float)
    if kind == "classes":
        y = rng.integers(3, size=(N_ROWS, 2))
        model = nmo.glm.ClassifierPopulationGLM(3, regularizer="Ridge", regularizer_strength=0.1)
    else:
        y = rng.poisson(2.0, size=(N_ROWS, 2)).astype(float)
        model = nmo.glm.PopulationGLM(kind, None, "Ridge", 0.1)
    found = []
    with jax.enable_x64(True):
        for source in (X, guarded(X)):
            problem = problem_of(model, source, y, weight, offset)
            priors = _lanes.priors_of(problem, "sample", np.ones(2), None, None, None)
            family, shared, lanes = _lanes.build(problem, priors, 1)
            u = 0.1 * np.sin(np.arange(lanes.centre.size)).reshape(lanes.centre.shape)
            energies = _passes.energies(family, shared, lanes, np.stack([u, 0.5 * u], axis=1))
            found.append((energies, *_passes.curvature(family, shared, lanes, u)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-8)


@pytest.mark.parametrize("outputs", [(), (2,), (2, 3)])
def test_a_predictor_is_one_formula_wherever_rows_are(rng, outputs):
    """In memory, in a file, traced; with an offset of the same shape, or without the first outputs (draws)."""
    X, coef = rng.normal(size=(N_ROWS, 3)), rng.normal(size=(3, *outputs))
    intercept = rng.normal(size=outputs)
    for offset in (
        None,
        rng.normal(size=(N_ROWS, *outputs)),
        rng.normal(size=(N_ROWS, *outputs[1:])),
    ):
        expected = np.einsum("nf,f...->n...", X, coef) + intercept
        if offset is not None:
            between = (1,) * (1 + len(outputs) - offset.ndim)
            expected = expected + offset.reshape(N_ROWS, *between, *offset.shape[1:])
        stored = _design.Stored(guarded(X))
        with jax.enable_x64(True):
            traced = jax.jit(rows.predictor)(X, coef, intercept, offset)
        for found in (rows.predictor(X, coef, intercept, offset),
                      rows.predictor(stored, coef, intercept, offset), traced):  # fmt: skip
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_sums_over_pieces_are_those_over_all_rows(rng):
    X = rng.normal(size=(N_ROWS, 4)) * [1.0, 10.0, 0.1, 3.0] + 5.0
    X[:, 3] = X[:, 0] + X[:, 1]
    weight = rng.integers(3, size=(N_ROWS, 1)).astype(float)
    stored = _design.Stored(guarded(X))
    again = np.repeat(X, weight[:, 0].astype(int), axis=0)
    for data in (X, stored):
        mean, sd = rows.moments(data, weight)
        np.testing.assert_allclose(mean, again.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(sd, again.std(axis=0), rtol=1e-12)
        ones = np.column_stack([again, np.ones(len(again))])
        products = rows.gram(data, weight[:, 0])
        np.testing.assert_allclose(products, ones.T @ ones / len(ones), rtol=1e-12)
        root = rows.triangle(data, lambda block, _: block)
        np.testing.assert_allclose(root.T @ root, X.T @ X, rtol=1e-10)
        assert rows.rank(data, np.arange(4)) == 3
        assert rows.finite_rows(data) is None
        np.testing.assert_array_equal(rows.predictor(data, np.eye(4), np.zeros(4)), X)


def test_rows_of_a_file_are_those_of_the_array(rng):
    X = features(rng)
    stored = _design.Stored(guarded(X))
    index = rng.integers(N_ROWS, size=500)
    np.testing.assert_array_equal(stored[index], X[index])
    np.testing.assert_array_equal(stored[:, 1], X[:, 1])
    np.testing.assert_array_equal(np.flatnonzero(~rows.finite_rows(stored)), [17, N_ROWS - 1])
    assert stored.astype(np.float32)[:5].dtype == np.float32
    zeroed = stored.zeroed(~rows.finite_rows(stored))
    np.testing.assert_array_equal(zeroed[index], np.nan_to_num(X[index], posinf=0.0))
