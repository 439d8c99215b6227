"""Few rows are computed with in NumPy, which compiles nothing: the numbers are those of the compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables
from jax import lax
from problems import settings_of
from reference import fitted
from test_compiling import compiled

import bayesglm as nmo
from bayesglm import rows, solvers
from bayesglm.glm._edge import problem_of
from bayesglm.rows import _interpreter, _small

FACES = {**tables.FAMILY_LINKS, "ZeroInflatedPoisson": ("exp", "softplus"), "classes": (None,)}
MEMBERS = [(family, link) for family, links in FACES.items() for link in links]
RESPONSES = {
    **tables.RESPONSES, "ZeroInflatedPoisson": tables.RESPONSES["Poisson"], "classes": tables.LABELS
}  # fmt: skip
_rng = np.random.default_rng(11)
# Some weights are zero, and what has none may lie anywhere.
WEIGHT = _rng.integers(0, 3, tables.RATE.shape).astype(float)
OFFSET = 0.1 * _rng.normal(size=tables.RATE.shape)


def model_of(family, link, **kwargs):
    if family == "classes":
        return nmo.glm.ClassifierPopulationGLM(tables.N_CLASSES, **kwargs)
    return nmo.glm.PopulationGLM(family, link, **kwargs)


def in_domain(link, X, offset):
    """Features and offsets with which all predictors near an intercept of one are positive."""
    return (0.05 * X, 0.5 * offset) if link == "one_over_x" else (X, offset)


@pytest.fixture
def everything_compiled(monkeypatch):
    """A function from which on no row is left to NumPy."""
    return lambda: monkeypatch.setattr(_small, "LARGEST", 0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("family", "link"), MEMBERS)
def test_a_pass_in_numpy_is_the_compiled_one(family, link, dtype, everything_compiled):
    """Losses, slopes, residuals, ends, moments and derivatives in the dispersion, also where rows have no weight."""
    X, offset = in_domain(link, tables.X, OFFSET)
    classes = np.arange(tables.N_CLASSES) if family == "classes" else None
    given = settings_of(model_of(family, link)), X.astype(dtype), RESPONSES[family]
    problem = problem_of(*given, classes, WEIGHT, offset)
    with solvers.numerics():
        small = problem.objective()
        everything_compiled()
        large = problem.objective()
    assert (small.shards.small, large.shards.small) == (True, False)
    theta = 0.3 * np.random.default_rng(3).normal(size=(*small.mask.shape[:2], X.shape[1] + 1))
    theta[..., -1] += 1.0
    # the compiled derivatives in the dispersion are those of predictors in float32
    scaled = classes is None and dtype is np.float64
    both = passes(small, theta, scaled), passes(large, theta, scaled)
    for one, other in zip(*both, strict=True):
        # Two hundred terms of one size, each right to a few roundings, of 2e-16.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
        assert np.isfinite(one).all()


def passes(objective, theta, scaled):
    """All that the passes return, as a list of arrays."""
    spec, shards = objective.spec, objective.shards
    with solvers.numerics():
        found = [rows.slopes_at(spec, shards, theta, np.dtype(float))]
        for shared, dense in ((True, True), (False, True), (False, False)):
            found.append(rows.moments_at(spec, shards, theta, shared, dense, np.dtype(float)))
        if scaled:
            log_scale = np.full(theta.shape[:2], -0.3)
            found.append(rows.of_log_scale(spec, shards, theta, log_scale))
        return [np.asarray(a) for a in jax.tree.leaves(found)]


@pytest.mark.parametrize("kind", ["Ridge", "GroupLasso"])
@pytest.mark.parametrize(("family", "link"), MEMBERS)
def test_a_fit_in_numpy_is_the_compiled_one(family, link, kind, everything_compiled):
    X, offset = in_domain(link, tables.X, OFFSET)
    strength = tables.REGULARIZERS[kind]
    model = model_of(family, link, regularizer=kind, regularizer_strength=strength)
    classes = (tables.N_CLASSES,) * (family == "classes")
    model.feature_mask = np.ones((*tables.COEF.shape, *classes), int)
    model.feature_mask[1, 0] = 0
    fit = lambda: model.fit(X, RESPONSES[family], sample_weight=WEIGHT, offset=offset)  # noqa: E731
    in_numpy, steps = fitted(fit()), model.solver_state_.iter_num
    everything_compiled()
    for one, other in zip(in_numpy, fitted(fit()), strict=True):
        # A billionth of standard errors of about 0.1: the steps are the same, and each sum is right to 1e-12.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
    assert model.solver_state_.iter_num == steps


@pytest.mark.parametrize(("family", "link"), MEMBERS)
def test_to_fit_predict_and_score_few_rows_compiles_nothing(family, link):
    model = model_of(family, link, regularizer="Ridge", regularizer_strength=0.1)
    X, _ = in_domain(link, tables.X, OFFSET)
    with compiled() as seen:
        model.fit(X, RESPONSES[family]).predict(X)
        # the mean that explains a zero-inflated count best is found in a loop
        loop = {"pseudo-r2-Cohen"} if family == "ZeroInflatedPoisson" else set()
        for kind in set(nmo.observation_models.SCORE_TYPES) - loop:
            model.score(X, RESPONSES[family], score_type=kind)
    programs = {name for event, name in seen if "backend_compile" in event}
    assert programs <= {"jit(stage)"}  # the copy to the device of what is returned


#: Functions of `jax.lax` that have another name than their primitive.
NAMES = {name: f"bitwise_{name}" for name in _interpreter._LOGICAL} | {"add_any": "add"}


@pytest.mark.parametrize("word", _interpreter._PLAIN)
def test_a_word_of_numpy_says_what_that_of_jax_says(word):
    function = getattr(lax, NAMES.get(word, word))
    points = np.linspace(0.1, 0.9, 30).reshape(2, 3, 5)
    points = points + 1.0 if word == "acosh" else points
    given = [points, points[:, ::-1, ::-1]][: _interpreter._PLAIN[word].nin]
    if word in _interpreter._LOGICAL:
        given = [a > 0.5 for a in given]
    example = (a.ravel()[0] for a in given)
    (found,) = _interpreter.interpreted(lambda *at: (function(*at),), *example)(*given)
    with jax.enable_x64(True):
        # functions of one number, right to a few roundings of 2e-16
        np.testing.assert_allclose(
            found, function(*map(jnp.asarray, given)), rtol=1e-13, atol=1e-15
        )


def repeated(eta):
    """Softplus of softplus, as a loop."""
    return lax.fori_loop(0, 2, lambda _, x: jnp.logaddexp(x, 0.0), eta)


def written_out(eta):
    return jnp.logaddexp(jnp.logaddexp(eta, 0.0), 0.0)


def test_what_numpy_has_no_word_for_is_compiled():
    fits = []
    for link, in_numpy in ((repeated, False), (written_out, True)):
        spec = rows.Spec(nmo.observation_models.PoissonObservations, link, None)
        assert (_small.formulas(spec) is not None) == in_numpy
        model = nmo.glm.PopulationGLM("Poisson", link, "Ridge", 0.1)
        fits.append(fitted(model.fit(tables.X, tables.RESPONSES["Poisson"])))
    for one, other in zip(*fits, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
