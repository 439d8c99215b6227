"""What a fit was made with travels with it: setting something later changes it openly, or not at all."""

import warnings

import jax
import numpy as np
import pytest
import tables

import bayesglm as nmo

X, COUNTS, LABELS = tables.X[:60], tables.RESPONSES["Poisson"][:60], tables.LABELS[:60]
POSITIVE, REAL = tables.RESPONSES["Gamma"][:60], tables.RESPONSES["Gaussian"][:60]
KEY = jax.random.key(3)

ESTIMATORS = {
    "GLM": (lambda: nmo.glm.GLM("Gamma", "exp", "Ridge", 0.1), POSITIVE[:, 0]),
    "PopulationGLM": (lambda: nmo.glm.PopulationGLM("Gamma", "exp", "Ridge", 0.1), POSITIVE),
    "ClassifierGLM": (
        lambda: nmo.glm.ClassifierGLM(tables.N_CLASSES, None, "Ridge", 0.1),
        LABELS[:, 0],
    ),
    "ClassifierPopulationGLM": (
        lambda: nmo.glm.ClassifierPopulationGLM(tables.N_CLASSES, None, "Ridge", 0.1),
        LABELS,
    ),
}
#: What can be set of every estimator, to a value under which its results would differ.
CHANGES = {
    "inverse_link_function": jax.nn.softplus,
    "regularizer": nmo.regularizer.Lasso(),
    "regularizer_strength": 5.0,
    "solver_name": "ProxNewton",
    "solver_kwargs": {"maxiter": 3},
}


def draws_of(model, y):
    """Draws by the quicker method; how good they are does not matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return model.sample_posterior(
            X, y, method="laplace", num_samples=50, num_chains=2, random_key=KEY, progress_bar=False
        )


@pytest.fixture(scope="module", params=list(ESTIMATORS))
def sampled(request):
    """An estimator with a fit and draws, and its responses; what a test changes it puts back."""
    make, y = ESTIMATORS[request.param]
    return draws_of(make(), y), y


def results(model, y):
    """Numbers and texts of every method that speaks of the fit."""
    found = {
        "predict": np.asarray(model.predict(X)),
        "score": np.asarray(model.score(X, y)),
        "simulate": np.asarray(model.simulate(KEY, X)[1]),
        "summary": model.summary().to_numpy(),
        "errors": model.summary(X, y).to_numpy(),
        "loo": model.loo(X, y).elpd,
        "draws": np.asarray(model.posterior_predictive(KEY, X, num_draws=3)),
        "settings": {
            k: v
            for k, v in model.report(X, y, loo=False).to_dict()["settings"].items()
            if k not in ("versions", "sampling time")
        },
    }
    if hasattr(model, "predict_proba"):
        found["predict_proba"] = np.asarray(model.predict_proba(X))
    else:
        found["interval"] = np.asarray(model.predict_interval(X))
    return found


@pytest.mark.filterwarnings("ignore:The solver:UserWarning")
def test_what_is_set_after_a_fit_belongs_to_the_next_one(sampled, tmp_path):
    model, y = sampled
    before = results(model, y)
    changes = {k: v for k, v in CHANGES.items() if k != "inverse_link_function"}
    if not isinstance(model, nmo.glm.ClassifierGLM | nmo.glm.ClassifierPopulationGLM):
        changes |= {"inverse_link_function": jax.nn.softplus, "observation_model": "Gaussian"}
    arguments = {name: getattr(model, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(model, name, value)
            np.testing.assert_equal(results(model, y), before, err_msg=name)
            model.save_params(tmp_path / "model.npz")
            np.testing.assert_equal(
                np.asarray(nmo.load_model(tmp_path / "model.npz").predict(X)), before["predict"]
            )
            # the arguments are the new ones all the same
            assert type(getattr(model, name)) is type(value) or name == "observation_model"
    finally:
        model.set_params(**arguments)
    np.testing.assert_equal(results(model, y), before)


@pytest.mark.parametrize("name", ["coef_", "intercept_", "scale_"])
def test_parameters_set_by_hand_have_no_draws(name):
    make, y = ESTIMATORS["PopulationGLM"]
    model = draws_of(make(), y)
    setattr(model, name, np.asarray(getattr(model, name)) * 0.5)
    assert model.posterior_ is None


def test_an_update_has_no_draws():
    make, y = ESTIMATORS["PopulationGLM"]
    model = draws_of(make(), y)
    state = model.initialize_optimizer_and_state((model.coef_, model.intercept_), X, y)
    model.update((model.coef_, model.intercept_), state, X, y)
    assert model.posterior_ is None


@pytest.mark.parametrize(("family", "y"), [("Gamma", POSITIVE), ("Gaussian", REAL)])
@pytest.mark.parametrize("population", [False, True])
def test_a_lesioned_model_keeps_its_dispersion(family, y, population):
    kind = nmo.glm.PopulationGLM if population else nmo.glm.GLM
    y = y if population else y[:, 0]
    model = kind(family, "exp" if family == "Gamma" else None).fit(X, y)
    scale, dof, state = model.scale_, model.dof_resid_, model.solver_state_
    coef = np.array(model.coef_)
    coef[0] = 0.0
    model.coef_ = coef
    model.intercept_ = np.asarray(model.intercept_)
    np.testing.assert_array_equal(model.scale_, scale)
    np.testing.assert_array_equal(model.dof_resid_, dof)
    assert model.solver_state_ is state
    # by hand: the log-likelihood at these coefficients and the dispersion of the fit
    rate = np.asarray(model.predict(X), float)
    expected = model.observation_model.log_likelihood(y, rate, np.asarray(scale, float), np.mean)
    np.testing.assert_allclose(model.score(X, y), expected, rtol=1e-5)
    assert model.simulate(KEY, X)[0].shape == y.shape
    # the solver's convergence says nothing about coefficients that it did not find
    assert "convergence" not in model.report(X, y).checks


def test_parameters_of_other_neurons_have_no_dispersion_of_these():
    model = nmo.glm.PopulationGLM("Gaussian").fit(X, REAL)
    model.coef_ = np.zeros((4, 5))
    assert model.scale_ is None
    model.intercept_ = np.zeros(5)
    with pytest.raises(ValueError, match="The dispersion is unknown"):
        model.score(X, np.zeros((60, 5)))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_only_a_fitted_estimator_says_that_it_is(name):
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    make, y = ESTIMATORS[name]
    with pytest.raises(NotFittedError):
        check_is_fitted(make())
    check_is_fitted(make().fit(X, y))
    by_hand, fitted = make(), make().fit(X, y)
    by_hand.coef_, by_hand.intercept_ = fitted.coef_, fitted.intercept_
    check_is_fitted(by_hand)
