"""The estimators are at home in scikit-learn: clone, pipelines, searches, tags, routing, pickling."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    check_cv,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import LABELS, N_FEATURES, N_NEURONS, RESPONSES, X

import bayesglm as nmo
from bayesglm.glm import GLM, ClassifierGLM, ClassifierPopulationGLM, PopulationGLM
from bayesglm.regularizer import GroupLasso

Y = RESPONSES["Poisson"]
COUNTS = Y[:, 0]
MASK = np.ones((N_FEATURES, N_NEURONS), dtype=int)
MASK[0, 1] = MASK[2, 0] = 0
STRINGS = np.array(["left", "right", "stop"])[LABELS[:, 0]]
FACES = {
    "GLM": (GLM, COUNTS),
    "PopulationGLM": (PopulationGLM, Y),
    "ClassifierGLM": (lambda **config: ClassifierGLM(3, **config), STRINGS),
    "ClassifierPopulationGLM": (lambda **config: ClassifierPopulationGLM(3, **config), LABELS),
}
SHARED = [
    "inverse_link_function",
    "observation_model",
    "regularizer",
    "regularizer_strength",
    "solver_kwargs",
    "solver_name",
]
KEYS = {
    "GLM": SHARED,
    "PopulationGLM": sorted([*SHARED, "feature_mask"]),
    "ClassifierGLM": sorted([*SHARED[:1], *SHARED[2:], "n_classes"]),
    "ClassifierPopulationGLM": sorted([*SHARED[:1], *SHARED[2:], "n_classes", "feature_mask"]),
}
CONFIGURATIONS = [
    PopulationGLM(feature_mask=MASK),
    PopulationGLM(feature_mask={"a": [1, 0, 1], "b": [1, 1, 1]}),
    PopulationGLM("NegativeBinomial", "softplus", "Ridge", 0.3, "BFGS", {"tol": 1e-3}),
    GLM(nmo.observation_models.NegativeBinomialObservations(0.7)),
    GLM(inverse_link_function=lambda x: jnp.exp(x) + 0.1),
    GLM(regularizer="ElasticNet", regularizer_strength=(0.3, 0.2)),
    GLM(regularizer=GroupLasso(np.eye(4)), regularizer_strength=[1.0, 2.0, 3.0, 4.0]),
    GLM(regularizer="Ridge", regularizer_strength={"a": 1.0, "b": np.arange(3.0)}),
    ClassifierGLM(4, regularizer="UnRegularized"),
    ClassifierPopulationGLM(2, feature_mask=np.ones((4, 3, 2))),
]


def assert_same_params(one, other):
    found, expected = one.get_params(), other.get_params()
    assert list(found) == list(expected)
    for (mine, structure), (theirs, other_structure) in (
        (jax.tree.flatten(found[name]), jax.tree.flatten(expected[name])) for name in expected
    ):
        assert structure == other_structure
        for a, b in zip(mine, theirs, strict=True):
            assert a is b or type(a) is type(b)
            if isinstance(b, (np.ndarray, str, int, float)):
                assert np.array_equal(a, b)


# parameters


@pytest.mark.parametrize("name", FACES)
def test_parameters_have_the_documented_names_in_order(name):
    make, _ = FACES[name]
    assert list(make().get_params(deep=False)) == KEYS[name]
    assert list(make().get_params()) == KEYS[name]


def test_deep_parameters_reach_into_components():
    estimator = GLM("NegativeBinomial", regularizer="GroupLasso", regularizer_strength=1.0)
    assert set(estimator.get_params()) - set(estimator.get_params(deep=False)) == {
        "observation_model__scale",
        "regularizer__mask",
    }


@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_clone_keeps_the_configuration(estimator):
    copied = clone(estimator)
    assert_same_params(copied, estimator)
    assert copied is not estimator
    assert copied.coef_ is None


@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_parameters_make_the_same_estimator_again(estimator):
    assert_same_params(type(estimator)(**estimator.get_params(deep=False)), estimator)


def test_clone_of_a_fit_is_not_fitted_and_may_get_another_mask():
    estimator = PopulationGLM(feature_mask=MASK)
    estimator.coef_, estimator.intercept_ = np.zeros(MASK.shape), np.zeros(N_NEURONS)
    copied = clone(estimator)
    assert copied.coef_ is copied.intercept_ is copied.scale_ is None
    copied.feature_mask = 1 - MASK
    assert np.array_equal(estimator.feature_mask, MASK)


def test_what_was_not_chosen_stays_open_in_a_clone():
    copied = clone(clone(GLM()))
    copied.regularizer = "Lasso"
    assert copied.solver_name == "ProximalGradient"
    # unlike a solver that was named
    named = clone(GLM(solver_name="LBFGS"))
    with pytest.warns(UserWarning, match="falling back"):
        named.regularizer = "Lasso"


def test_no_regularizer_means_the_default_wherever_it_is_set():
    for make, default in ((GLM, "UnRegularized()"), (ClassifierGLM, "Ridge()")):
        estimator = make(regularizer="Lasso", regularizer_strength=1.0).set_params(regularizer=None)
        assert repr(estimator.regularizer) == default
        assert repr(clone(estimator).regularizer) == default
        estimator.regularizer = None
        assert repr(estimator.regularizer) == default


def test_changing_a_clone_leaves_the_original():
    original = GLM("NegativeBinomial", regularizer="GroupLasso", regularizer_strength=1.0)
    copied = clone(original)
    copied.set_params(
        observation_model__scale=0.3, regularizer__mask=np.eye(4), solver_kwargs={"tol": 0.1}
    )
    assert original.observation_model.scale == 1.0
    assert original.regularizer.mask is None
    assert original.solver_kwargs == {}


ORDERS = [
    {"regularizer": "Lasso", "regularizer_strength": 0.2},
    {"regularizer": "ElasticNet", "regularizer_strength": (0.2, 0.3)},
    {"regularizer": "Lasso", "solver_name": "ProxSVRG", "solver_kwargs": {"batch_size": 3}},
    {"observation_model": "NegativeBinomial", "observation_model__scale": 0.3},
    {"regularizer": GroupLasso(), "regularizer__mask": np.eye(4), "regularizer_strength": 1.0},
    {"observation_model": "Gamma", "inverse_link_function": None},
]


@pytest.mark.parametrize("params", ORDERS, ids=lambda params: "+".join(params))
def test_parameters_can_be_set_together_in_any_order(params):
    start = {"regularizer": "Ridge", "regularizer_strength": 0.5}
    if "solver_name" in params:  # what is replaced is no obstacle
        start |= {"solver_name": "LBFGS", "solver_kwargs": {"memory_size": 3}}
    forward = GLM(**start).set_params(**params)
    backward = GLM(**start).set_params(**dict(reversed(params.items())))
    assert_same_params(forward, backward)
    assert set(params) <= set(forward.get_params())


def test_strength_returns_to_the_default_with_a_new_regularizer_only():
    estimator = GLM(regularizer="Ridge", regularizer_strength=0.3)
    assert estimator.set_params(solver_kwargs={}).regularizer_strength == 0.3
    assert estimator.set_params(regularizer="Lasso").regularizer_strength == 1.0
    assert estimator.set_params(regularizer="ElasticNet").regularizer_strength == (1.0, 0.5)
    assert estimator.set_params(regularizer="UnRegularized").regularizer_strength is None
    assert estimator.set_params(regularizer="Ridge").regularizer_strength == 1.0


def test_setting_is_all_or_nothing():
    estimator = GLM(regularizer="Ridge", regularizer_strength=0.3, solver_name="BFGS")
    before = estimator.get_params()
    with pytest.raises(ValueError, match="non-negative"):
        estimator.set_params(
            regularizer="Lasso",
            solver_name=None,
            observation_model="Gamma",
            regularizer_strength=-1,
        )
    assert estimator.get_params() == before


def test_set_params_returns_the_estimator():
    estimator = GLM()
    assert estimator.set_params() is estimator
    assert estimator.set_params(regularizer_strength=None) is estimator


# representation


@pytest.mark.parametrize(
    ("estimator", "lines"),
    [
        (
            GLM(),
            [
                "GLM(",
                "observation_model=PoissonObservations(),",
                "inverse_link_function=exp,",
                "regularizer=UnRegularized(),",
                "solver_name='LBFGS'",
                ")",
            ],
        ),
        (
            PopulationGLM("NegativeBinomial", feature_mask=MASK, solver_kwargs={"tol": 0.1}),
            [
                "PopulationGLM(",
                "observation_model=NegativeBinomialObservations(scale=1.0),",
                "inverse_link_function=exp,",
                "regularizer=UnRegularized(),",
                "solver_name='LBFGS',",
                "solver_kwargs={'tol': 0.1}",
                ")",
            ],
        ),
        (
            ClassifierGLM(3, regularizer="Lasso", regularizer_strength=0.0),
            [
                "ClassifierGLM(",
                "n_classes=3,",
                "inverse_link_function=log_softmax,",
                "regularizer=Lasso(),",
                "regularizer_strength=0.0,",
                "solver_name='ProximalGradient'",
                ")",
            ],
        ),
    ],
    ids=["GLM", "PopulationGLM", "ClassifierGLM"],
)
def test_representation_lists_what_is_set_without_arrays(estimator, lines):
    assert [line.strip() for line in repr(estimator).splitlines()] == lines


def test_representation_of_a_pipeline_and_in_a_notebook():
    pipeline = make_pipeline(StandardScaler(), GLM(regularizer="Ridge", regularizer_strength=0.5))
    assert "Ridge()" in repr(pipeline)
    assert "Ridge()" in repr(GridSearchCV(pipeline, {"glm__regularizer_strength": [1.0]}))
    for estimator in (GLM(), PopulationGLM(feature_mask=MASK), pipeline):
        assert "GLM" in estimator._repr_html_()


# tags


@pytest.mark.parametrize("name", FACES)
def test_tags_say_what_the_estimator_is(name):
    estimator = FACES[name][0]()
    is_class = name.startswith("Classifier")
    assert is_classifier(estimator) == is_class
    assert is_regressor(estimator) != is_class
    tags = estimator.__sklearn_tags__()
    assert tags.target_tags.required
    assert tags.target_tags.multi_output == ("Population" in name)
    assert tags.input_tags.allow_nan
    assert tags.requires_fit


def test_folds_of_a_classifier_are_stratified():
    assert isinstance(
        check_cv(3, STRINGS, classifier=is_classifier(ClassifierGLM(3))), StratifiedKFold
    )
    assert isinstance(check_cv(3, COUNTS, classifier=is_classifier(GLM())), KFold)
    # sorted labels: plain folds would lack a class in training and fail
    order = np.argsort(LABELS[:, 0], kind="stable")
    scores = cross_val_score(ClassifierGLM(3), X[order], STRINGS[order], cv=2, error_score="raise")
    assert np.isfinite(scores).all()


# pipelines and searches


def test_pipeline_is_the_same_as_its_steps():
    pipeline = make_pipeline(StandardScaler(), GLM()).fit(3 * X + 1, COUNTS)
    alone = GLM().fit(StandardScaler().fit_transform(3 * X + 1), COUNTS)
    np.testing.assert_array_equal(pipeline[-1].coef_, alone.coef_)
    assert pipeline.predict(X).shape == COUNTS.shape
    assert np.isfinite(pipeline.score(X, COUNTS))


def test_cross_validated_scores_are_those_of_single_fits():
    folds = KFold(2)
    scores = cross_val_score(PopulationGLM(feature_mask=MASK), X, Y, cv=folds, error_score="raise")
    for score, (train, test) in zip(scores, folds.split(X), strict=True):
        model = PopulationGLM(feature_mask=MASK).fit(X[train], Y[train])
        assert score == model.score(X[test], Y[test])
        assert np.all(np.asarray(model.coef_)[MASK == 0] == 0)


GRIDS = {
    "strength": (GLM(regularizer="Ridge"), {"regularizer_strength": [0.01, 100.0]}, 0.01),
    "dispersion": (GLM("NegativeBinomial"), {"observation_model__scale": [0.05, 50.0]}, 0.05),
}


@pytest.mark.parametrize("name", GRIDS)
def test_grid_search_finds_the_better_parameter(name):
    estimator, grid, best = GRIDS[name]
    search = GridSearchCV(estimator, grid, cv=KFold(2), error_score="raise").fit(X, COUNTS)
    assert list(search.best_params_.values()) == [best]
    assert search.best_estimator_.coef_.shape == (N_FEATURES,)
    # what the other one costs is far from rounding: strength 100 is no model, dispersion 50 a poor one
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0.01


def test_grid_search_over_group_masks_and_regularizers():
    masks = [np.ones((1, N_FEATURES)), np.eye(N_FEATURES)]
    estimator = GLM(regularizer="GroupLasso", regularizer_strength=0.03)
    grid = [
        {"regularizer__mask": masks},
        {"regularizer": ["Lasso"], "regularizer_strength": [0.03]},
    ]
    search = GridSearchCV(estimator, grid, cv=KFold(2), error_score="raise", refit=False)
    search.fit(X, COUNTS)
    ones, own, lasso = search.cv_results_["mean_test_score"]
    # groups of one coefficient are the lasso; the two solves agree to their tolerance, 1e-6 standard errors
    assert own == pytest.approx(lasso, abs=1e-5)
    assert ones != own


def test_scores_in_two_processes_are_those_of_one():
    scores = [
        cross_val_score(GLM(), X, COUNTS, cv=KFold(2), n_jobs=n, error_score="raise")
        for n in (1, 2)
    ]
    np.testing.assert_array_equal(*scores)


# metadata routing


@pytest.mark.parametrize("name", FACES)
def test_requests_exist_for_all_metadata(name):
    estimator = FACES[name][0]()
    with sklearn.config_context(enable_metadata_routing=True):
        estimator.set_fit_request(init_params=True, sample_weight=True, offset=True)
        estimator.set_score_request(
            score_type=True, aggregate_sample_scores=True, sample_weight=True, offset=True
        )
        estimator.set_predict_request(offset=True)
        if hasattr(estimator, "predict_proba"):
            estimator.set_predict_proba_request(return_type=True)
        requests = clone(estimator).get_metadata_routing()
    assert requests.fit.requests == {"init_params": True, "sample_weight": True, "offset": True}
    assert requests.score.requests["score_type"] is True


def test_weights_are_routed_to_the_fits_of_a_search():
    # rows of weight zero carry counts that would spoil the fit
    weight = (np.arange(len(X)) % 4 > 0).astype(float)
    spoiled = np.where(weight > 0, COUNTS, 50.0)
    kept = weight > 0
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = GLM(regularizer="Ridge").set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=True)
        search = GridSearchCV(
            estimator, {"regularizer_strength": [0.1]}, cv=KFold(2), error_score="raise"
        )
        search.fit(X, spoiled, sample_weight=weight)
    alone = GLM(regularizer="Ridge", regularizer_strength=0.1).fit(X[kept], COUNTS[kept])
    # shown in single precision; the fits agree to a fraction of their tolerance of 1e-6 standard errors
    np.testing.assert_allclose(search.best_estimator_.coef_, alone.coef_, atol=1e-6)


# copies


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("copied_by", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))],
                         ids=["deepcopy", "pickle"])  # fmt: skip
def test_copy_of_a_fit_predicts_the_same_and_is_independent(name, copied_by):
    make, y = FACES[name]
    estimator = make()
    rows = {"a": X[:, :1], "b": [X[:, 1:]]}
    shape = y.shape[1:] + (3,) * ("Classifier" in name)
    rng = np.random.default_rng(2)
    estimator.coef_ = jax.tree.map(lambda leaf: rng.normal(size=(leaf.shape[1], *shape)), rows)
    estimator.intercept_ = rng.normal(size=shape or 1)
    estimator.scale_ = 1.0
    if "Classifier" in name:
        estimator.set_classes(y)
    copied = copied_by(estimator)
    np.testing.assert_array_equal(copied.predict(rows), estimator.predict(rows))
    assert_same_params(copied, estimator)
    copied.intercept_ = np.zeros(shape or 1)
    assert np.any(np.asarray(estimator.intercept_) != 0)


def test_fit_survives_pickling_with_its_state():
    estimator = GLM().fit(X, COUNTS)
    copied = pickle.loads(pickle.dumps(estimator))
    assert copied.score(X, COUNTS) == estimator.score(X, COUNTS)
    assert copied.solver_state_.iter_num == estimator.solver_state_.iter_num
    assert copied.fit(X, COUNTS).coef_.tolist() == estimator.coef_.tolist()
