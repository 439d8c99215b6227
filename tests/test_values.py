"""Settings, fits and posteriors are values, made from input that is checked once; who was called tells the rest."""

import copy
import warnings

import numpy as np
import pytest
import sklearn.base
import tables
from test_state import ESTIMATORS, KEY, X, draws_of

import bayesglm as nmo
from bayesglm._design import Design
from bayesglm._layout import Layout
from bayesglm._sampling import _passes
from bayesglm.glm._problem import Problem, Rows
from bayesglm.glm._settings import Settings
from bayesglm.glm._values import Fit, Posterior

#: Every method that takes rows of a fit, as a call.
CALLS = {
    "predict": lambda m, y: m.predict(X),
    "predict with its error": lambda m, y: m.predict(X, return_std=True),
    "score": lambda m, y: m.score(X, y),
    "simulate": lambda m, y: m.simulate(KEY, X),
    "summary": lambda m, y: m.summary(X, y),
    "predict_interval": lambda m, y: m.predict_interval(X),
    "posterior_predictive": lambda m, y: m.posterior_predictive(KEY, X, num_draws=2),
    "loo": lambda m, y: m.loo(X, y),
    "loo_pit": lambda m, y: m.loo_pit(X, y),
    "report": lambda m, y: m.report(X, y, loo=False),
    "numpyro_model": lambda m, y: m.numpyro_model(X, y),
    "compute_loss": lambda m, y: m.compute_loss((m.coef_, m.intercept_), X, y),
    "fit": lambda m, y: m.fit(X, y),
    "sample_posterior": lambda m, y: draws_of(m, y),
}
OF_LABELS = {"predict with its error", "loo_pit"}


@pytest.fixture(scope="module", params=list(ESTIMATORS))
def sampled(request):
    """An estimator with a fit and draws, and its responses; what changes it comes last."""
    make, y = ESTIMATORS[request.param]
    return draws_of(make(), y), y


def counted(monkeypatch, owner, name):
    """Count the calls of a function, in a list."""
    calls, function = [], getattr(owner, name)

    def count(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, count)
    return calls


@pytest.mark.parametrize("call", CALLS)
def test_a_call_reads_its_features_once(sampled, call, monkeypatch):
    model, y = sampled
    if call in OF_LABELS and hasattr(model, "classes_"):
        pytest.skip("labels have neither order nor error")
    calls = counted(monkeypatch, Design, "of")
    CALLS[call](model, y)
    assert len(calls) == 1


@pytest.mark.parametrize("drawn", [False, True])
def test_a_report_takes_the_curvature_once(drawn, monkeypatch):
    make, y = ESTIMATORS["PopulationGLM"]
    model = draws_of(make(), y) if drawn else make().fit(X, y)
    calls = counted(monkeypatch, _passes, "curvature")
    model.report(X, y, loo=False)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [Settings, Layout, Rows, Problem, Fit, Posterior])
def test_values_do_not_change(kind):
    assert kind.__dataclass_params__.frozen


def test_estimators_are_at_most_five_classes_deep():
    for name in ESTIMATORS:
        mro = getattr(nmo.glm, name).__mro__
        assert sum(kind.__module__.startswith("bayesglm") for kind in mro) <= 5


def test_a_population_of_classifiers_is_both():
    model = nmo.glm.ClassifierPopulationGLM(2)
    assert isinstance(model, nmo.glm.ClassifierGLM)
    assert isinstance(model, nmo.glm.PopulationGLM)


def test_labels_of_a_copy_are_its_own():
    model = nmo.glm.ClassifierGLM(2).set_classes(["a", "b"])
    other = copy.copy(model).set_classes(["c", "d"])
    assert other.classes_.tolist() == ["c", "d"]
    assert model.classes_.tolist() == ["a", "b"]


def test_labels_that_were_refused_leave_those_of_the_fit():
    make, y = ESTIMATORS["ClassifierGLM"]
    model = make().fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="unique class labels"):
        model.fit(X, np.arange(len(y)))
    np.testing.assert_array_equal(model.predict(X), before)


def _set_regularizer(model):
    model.regularizer = "Lasso"


def _smooth():
    return nmo.glm.GLM(regularizer="Ridge", regularizer_strength=1.0, solver_name="Newton")


def _with_nan():
    features = X.copy()
    features[0, 0] = np.nan
    return features


def _alone():
    """Features of which one row has something that no other has."""
    features = X.copy()
    features[:, 0] = np.arange(len(X)) == 3
    return features


COUNTS, LABELS = tables.RESPONSES["Poisson"][:60], tables.LABELS[:60]
FEW = {"solver_kwargs": {"maxiter": 1, "tol": 1e-12}}
WARNING = {
    "a strength that was not given": lambda: nmo.glm.GLM(regularizer="Ridge").fit(X, COUNTS[:, 0]),
    "no convergence": lambda: nmo.glm.GLM(**FEW).fit(X, COUNTS[:, 0]),
    "no convergence before draws": lambda: nmo.glm.GLM(**FEW).sample_posterior(
        X, COUNTS[:, 0], method="laplace", num_samples=50, random_key=KEY, progress_bar=False
    ),
    "a solver that no longer serves": lambda: _smooth().set_params(regularizer="Lasso"),
    "a solver that no longer serves, by attribute": lambda: _set_regularizer(_smooth()),
    "rows without a label": lambda: (
        nmo.glm.ClassifierGLM(tables.N_CLASSES).fit(X, LABELS[:, 0]).predict(_with_nan())
    ),
    "a row that decides alone": lambda: (
        nmo.glm.GLM("Gaussian")
        .fit(_alone(), tables.RESPONSES["Gaussian"][:60, 0])
        .summary(_alone(), tables.RESPONSES["Gaussian"][:60, 0], robust=True)
    ),
}


@pytest.mark.parametrize("name", WARNING)
def test_a_warning_is_given_at_the_line_that_called(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        WARNING[name]()
    assert caught
    for each in caught:
        assert each.filename == __file__


class Mine(nmo.glm.GLM):
    """An estimator with an argument of its own."""

    def __init__(self, smoothness=1, regularizer=None):
        super().__init__(regularizer=regularizer)
        self.smoothness = smoothness


def test_a_subclass_may_have_arguments_of_its_own(tmp_path):
    model = Mine().set_params(smoothness=4, regularizer="Ridge")
    assert sklearn.base.clone(model).get_params() == {
        "regularizer": model.regularizer,
        "smoothness": 4,
    }
    assert "smoothness=4" in repr(model)
    model.save_params(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="'Mine'; known are"):
        nmo.load_model(tmp_path / "model.npz")
