"""Programs are compiled once per family, link and shape: strength, tolerance, data and estimator do not matter.

What is counted is the tracing of programs and their lowering, which happen before any cache of compiled code is asked.
"""

import contextlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tables
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

import bayesglm as nmo
from bayesglm.rows import _small

_events = []


@jax.monitoring.register_event_duration_secs_listener
def _listen(event, duration, **details):
    if event.startswith("/jax/core/compile/"):
        _events.append((event, details.get("fun_name")))


@contextlib.contextmanager
def compiled():
    """List of what is traced, lowered or compiled inside."""
    seen, before = [], len(_events)
    yield seen
    seen += _events[before:]


@pytest.fixture(autouse=True, scope="module")
def _nothing_compiled_before():
    """Programs of other files are not there."""
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _nothing_left_to_numpy(monkeypatch):
    """Small shapes stand for large ones here; few rows compile nothing at all (`tests/test_small.py`)."""
    monkeypatch.setattr(_small, "LARGEST", 0)


@pytest.fixture(autouse=True)
def _nothing_held_open():
    """The global precision flag is what it was."""
    before = jax.config.read("jax_enable_x64")
    yield
    assert jax.config.read("jax_enable_x64") == before
    assert jax.numpy.zeros(1).dtype == (np.float64 if before else np.float32)


def data(seed, n=tables.N_SAMPLES, neurons=None, shift=0.0):
    """Counts and features that are new for every seed."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, tables.N_FEATURES))
    eta = shift + X @ (tables.COEF if neurons else tables.COEF[:, 0])
    return X, rng.poisson(np.exp(eta)).astype(float)


def test_the_count_sees_a_new_shape():
    """Two: on the second, everything that does not depend on the shape is there already."""
    nmo.glm.GLM().fit(*data(0, n=61))
    with compiled() as seen:
        nmo.glm.GLM().fit(*data(0, n=67))
    assert any("trace" in event for event, _ in seen)
    assert any("mlir" in event for event, _ in seen)
    assert any("backend_compile" in event for event, _ in seen)


def test_other_strengths_folds_and_data_compile_nothing_in_a_search():
    def search(seed, strengths, folds):
        model = nmo.glm.PopulationGLM(regularizer="Lasso", regularizer_strength=0.1)
        how = {"strengths": strengths, "cv": folds}
        nmo.model_selection.StrengthSearchCV(model, **how).fit(*data(seed, neurons=3))

    # the second time neither the start nor the number of steps is new
    for seed in range(2):
        search(seed, [0.3, 0.1], KFold(4))
    with compiled() as seen:
        search(2, [0.2, 0.05, 0.02], KFold(4, shuffle=True, random_state=0))
    assert not seen


def test_the_count_sees_a_new_family():
    X, y = data(0, n=61)
    nmo.glm.GLM().fit(X, y)
    with compiled() as seen:
        nmo.glm.GLM("Gaussian").fit(X, y)
    assert seen


CASES = [(kind, None) for kind in tables.REGULARIZERS] + [
    ("Ridge", solver) for solver in tables.SOLVERS if solver not in ("LBFGS", "SVRG", "ProxSVRG")
]


def settings(kind, factor):
    """Strength of a kind times a factor."""
    strength = tables.REGULARIZERS[kind]
    if kind == "ElasticNet":
        return (strength[0] * factor, strength[1])
    return None if strength is None else strength * factor


def warm_up(make, kind, **how):
    """Fit until every program of the solver has been met: long runs take a metric that short ones do not need."""
    for seed in range(2):
        for shift in (0.0, -2.0):
            make(kind, 1.0).fit(*data(seed, shift=shift, **how))
            make(kind, 0.1).fit(*data(seed, shift=shift, **how))


@pytest.mark.parametrize(("kind", "solver"), CASES)
@pytest.mark.parametrize("face", ["GLM", "PopulationGLM"])
def test_a_second_fit_of_the_same_shape_compiles_nothing(face, kind, solver):
    def make(kind, factor, **kwargs):
        return getattr(nmo.glm, face)("Poisson", None, kind, settings(kind, factor), solver, kwargs)

    how = {"neurons": tables.N_NEURONS if face == "PopulationGLM" else None}
    X, y = data(7, **how)
    warm_up(make, kind, **how)
    first = make(kind, 1.0).fit(X, y)
    start = (first.coef_, first.intercept_)
    with compiled() as seen:
        make(kind, 1.0).fit(X, y)  # the same again
        clone(first).fit(X, y)
        make(kind, 1.5).fit(X, y)  # another strength
        make(kind, 1.0).fit(*data(8, **how))  # other data
        make(kind, 1.0, tol=1e-4, maxiter=400).fit(X, y)
        make(kind, 1.0).fit(X, y, init_params=start)
    assert seen == []


def test_other_strengths_of_leaves_compile_nothing():
    kinds = {"a": nmo.regularizer.Smooth(), "b": nmo.regularizer.Normal()}

    def fit(seed, strength, scale=1.0, shift=0.0):
        X, y = data(seed, shift=shift)
        X = {"a": X[:, :3], "b": X[:, 3:]}
        model = nmo.glm.GLM(regularizer=kinds, regularizer_strength={"a": strength})
        return model.set_params(regularizer__b__scale=scale).fit(X, y)

    for seed in range(2):
        for shift in (0.0, -2.0):
            fit(seed, 1.0, shift=shift)
            fit(seed, 0.1, shift=shift)
    with compiled() as seen:
        fit(7, 1.0)
        fit(8, 0.4, scale=0.7)
    assert seen == []


def test_masks_and_weights_compile_nothing_new():
    X, y = data(7, neurons=tables.N_NEURONS)

    def fit(mask, weight):
        nmo.glm.PopulationGLM(feature_mask=mask).fit(X, y, sample_weight=weight)

    rng = np.random.default_rng(3)
    mask = np.ones(tables.COEF.shape, dtype=int)
    mask[0, 1] = 0
    for _ in range(3):
        fit(mask, rng.integers(1, 3, size=len(X)))
    with compiled() as seen:
        fit(mask[::-1], rng.integers(1, 3, size=len(X)))
        fit(np.roll(mask, 1, axis=1), rng.uniform(1, 3, size=len(X)))
    assert seen == []


def test_a_classifier_compiles_nothing_on_a_second_fit():
    def fit(strength, y):
        nmo.glm.ClassifierGLM(tables.N_CLASSES, None, "Ridge", strength).fit(tables.X, y)

    for k in range(2):
        fit(0.1, tables.LABELS[:, k])
        fit(0.01, tables.LABELS[:, k])
    with compiled() as seen:
        fit(0.05, tables.LABELS[:, 2])
        fit(0.05, np.array(["a", "b", "c"])[tables.LABELS[:, 2]])
    assert seen == []


def test_predictions_and_scores_compile_nothing_the_second_time():
    X, y = data(1)
    first, second = nmo.glm.GLM().fit(X, y), nmo.glm.GLM("Poisson", None, "Ridge", 0.1).fit(X, y)
    first.predict(X), first.score(X, y)
    with compiled() as seen:
        second.predict(X), second.score(*data(2))
    assert seen == []


ROWS = {  # with the numbers of rows that are filled up to one length
    "GLM": (nmo.glm.GLM(), lambda y: y[:, 0]),
    "PopulationGLM": (nmo.glm.PopulationGLM("Gamma", "exp", "Lasso", 0.01), lambda y: 0.5 + y),
    "ClassifierGLM": (nmo.glm.ClassifierGLM(2), lambda y: y[:, 0] > 0),
}


@pytest.mark.parametrize("score_type", nmo.observation_models.SCORE_TYPES)
@pytest.mark.parametrize("face", ROWS)
def test_another_number_of_rows_close_by_compiles_nothing(face, score_type):
    model, of_counts = ROWS[face]

    def use(n, seed):
        X, y = data(seed, n=n, neurons=tables.N_NEURONS)
        fitted = clone(model).fit(X, of_counts(y))
        fitted.predict(X), fitted.score(X, of_counts(y), score_type=score_type)
        offset = np.full(n, 0.1) if face == "GLM" else None
        fitted.fit(X, of_counts(y), sample_weight=np.full(n, 2.0), offset=offset)
        if offset is not None:
            fitted.predict(X, offset=offset)

    for seed in range(3):
        use(200, seed)
    with compiled() as seen:
        for n in (193, 201, 208):
            use(n, n)
    assert seen == []


@pytest.mark.parametrize("face", ROWS)
def test_rows_that_fill_up_change_nothing(face):
    """A fit of 201 rows, filled up to 208, is that of 208 rows of which seven have no weight."""
    model, of_counts = ROWS[face]
    X, y = data(3, n=208, neurons=tables.N_NEURONS)
    y = of_counts(y)
    some = clone(model).fit(X[:201], y[:201])
    weight = (np.arange(208) < 201).astype(float)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    # the same sums in another order, and steps that stop within 1e-4 standard errors of the optimum
    np.testing.assert_allclose(some.coef_, weighted.coef_, rtol=1e-4, atol=1e-5)
    with jax.enable_x64(True):
        for kind in nmo.observation_models.SCORE_TYPES:
            filled = some.score(X[:201], y[:201], score_type=kind)
            given = some.score(X, y, score_type=kind, sample_weight=weight)
            np.testing.assert_allclose(filled, given, rtol=1e-12)
        np.testing.assert_array_equal(some.predict(X[:201]), some.predict(X)[:201])


LENGTHS = """
import jax
import numpy as np
import bayesglm as nmo
from bayesglm.rows import _small

_small.LARGEST = 0
compiled = []
listen = lambda event, duration, **_: compiled.append(event) if "backend_compile" in event else None
jax.monitoring.register_event_duration_secs_listener(listen)
rng = np.random.default_rng(0)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4 / 1024


# twenty from all over the range, then eighty others
lengths = [*range(400, 600, 10), *(n for n in range(401, 600) if n % 5 in (1, 3))]
for count, n in enumerate(lengths, 1):
    X = rng.normal(size=(n, 4))
    y = rng.poisson(np.exp(0.3 * X[:, 0]))
    model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=0.1).fit(X, y)
    model.predict(X), model.score(X, y)
    if count in (20, 100):
        print(len(compiled), resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_hundred_numbers_of_rows_keep_no_more_than_twenty():
    command = [sys.executable, "-c", LENGTHS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (programs, before), (later, after) = (map(float, s.split()) for s in done.stdout.splitlines())
    # a handful of steps of the filled length, and rare programs that a long line search needs first
    assert later - programs < 10
    # each new number of rows used to keep about 24 MB, so that these were two gigabytes
    assert after - before < 40


@pytest.mark.parametrize("kind", ["Ridge", "Lasso"])
def test_a_grid_search_compiles_nothing_after_its_first_fits(kind):
    X, y = data(5, n=150)
    strengths = {"regularizer_strength": [0.3, 0.1, 0.03, 0.01]}
    model = nmo.glm.GLM("Poisson", None, kind, 0.1)
    folds = KFold(3)  # of equal length
    for train, test in folds.split(X):
        for strength in strengths["regularizer_strength"][::3]:
            clone(model).set_params(regularizer_strength=strength).fit(X[train], y[train]).score(
                X[test], y[test]
            )
    with compiled() as seen:
        search = GridSearchCV(model, strengths, cv=folds, refit=False).fit(X, y)
    assert seen == []
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_the_precision_flag_of_the_user_does_not_matter():
    """Results are those of float64 either way, and nothing is compiled anew for the flag."""
    X, y = data(1)
    off = nmo.glm.GLM().fit(X, y)
    with jax.enable_x64(True):
        on = nmo.glm.GLM().fit(X, y)
        np.testing.assert_array_equal(np.asarray(on.coef_), np.asarray(off.coef_))
    assert off.coef_.dtype == np.float32
