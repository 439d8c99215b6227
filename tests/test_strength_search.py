"""The search over strengths: its choice, its interface, and what it refuses."""

import pickle

import matplotlib
import numpy as np
import pytest
from faces import FACES
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted
from tables import N_NEURONS, N_SAMPLES, REGULARIZERS, RESPONSES, X

import bayesglm as nmo
from bayesglm import solvers
from bayesglm.model_selection import BlockedKFold, StrengthSearchCV

matplotlib.use("Agg")
STRENGTHS = [0.3, 0.1, 0.03, 0.01]
COUNTS = RESPONSES["Poisson"]
FOLDS = KFold(3)
PENALTIES = tuple(name for name, strength in REGULARIZERS.items() if strength is not None)


def population(regularizer="Lasso", strength=0.1, **more):
    return nmo.glm.PopulationGLM(regularizer=regularizer, regularizer_strength=strength, **more)


def search(*given, **more):
    return StrengthSearchCV(population(), STRENGTHS, FOLDS, *given, **more)


# -- the choice ------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", PENALTIES)
@pytest.mark.parametrize("face", FACES)
def test_one_strength_for_all_is_that_of_a_grid_search(face, regularizer):
    make, y, _ = FACES[face]
    pair = regularizer == "ElasticNet"
    model = make(regularizer=regularizer, regularizer_strength=(1.0, 0.3) if pair else 1.0)
    grid = {"regularizer_strength": [(s, 0.3) for s in STRENGTHS] if pair else STRENGTHS}
    expected = GridSearchCV(model, grid, cv=FOLDS).fit(X, y)
    found = StrengthSearchCV(model, STRENGTHS, FOLDS, per_neuron=False).fit(X, y)
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    for name in ("mean_test_score", "std_test_score", "split0_test_score"):
        # scores are shown in float32, and are of order one
        np.testing.assert_allclose(found.cv_results_[name], expected.cv_results_[name], atol=1e-6)
    assert found.best_index_ == expected.best_index_
    best, theirs = found.best_estimator_, expected.best_estimator_
    assert best.regularizer_strength == theirs.regularizer_strength
    np.testing.assert_allclose(best.coef_, theirs.coef_, atol=1e-6)


@pytest.mark.parametrize("scoring", [None, "pseudo-r2-McFadden", "pseudo-r2-Cohen"])
def test_a_neuron_chooses_as_if_it_were_alone(scoring):
    found = search(scoring).fit(X, COUNTS)
    assert found.cv_results_["mean_test_score"].shape == (len(STRENGTHS), N_NEURONS)
    for k in range(N_NEURONS):
        model = nmo.glm.GLM(regularizer="Lasso", regularizer_strength=0.1)
        alone = StrengthSearchCV(model, STRENGTHS, FOLDS, scoring).fit(X, COUNTS[:, k])
        assert found.best_strength_[k] == alone.best_strength_
        assert found.best_score_[k] == pytest.approx(alone.best_score_, abs=1e-6)
        np.testing.assert_allclose(
            found.best_estimator_.coef_[:, k], alone.best_estimator_.coef_, atol=1e-6
        )


@pytest.mark.parametrize("regularizer", PENALTIES)
@pytest.mark.parametrize("face", ["PopulationGLM", "ClassifierPopulationGLM"])
def test_the_best_estimator_has_the_strength_of_each_neuron(face, regularizer):
    make, y, _ = FACES[face]
    start = REGULARIZERS[regularizer]
    model = make(regularizer=regularizer, regularizer_strength=start)
    found = StrengthSearchCV(model, STRENGTHS, FOLDS).fit({"a": X[:, :3], "b": X[:, 3:]}, y)
    for k, strength in enumerate(found.best_strength_):
        value = (strength, start[1]) if isinstance(start, tuple) else float(strength)
        alone = clone(model).set_params(regularizer_strength=value)
        alone.fit({"a": X[:, :3], "b": X[:, 3:]}, y)
        for leaf, coef in found.best_estimator_.coef_.items():
            np.testing.assert_allclose(coef[:, k], alone.coef_[leaf][:, k], atol=1e-6)


def test_a_scorer_of_scikit_learn_chooses_as_in_a_grid_search():
    model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=1.0)
    for scoring in ("neg_mean_squared_error", make_scorer(mean_squared_error)):
        grid = {"regularizer_strength": STRENGTHS}
        expected = GridSearchCV(model, grid, scoring=scoring, cv=FOLDS).fit(X, COUNTS[:, 0])
        found = StrengthSearchCV(model, STRENGTHS, FOLDS, scoring).fit(X, COUNTS[:, 0])
        mean = expected.cv_results_["mean_test_score"]
        np.testing.assert_allclose(found.cv_results_["mean_test_score"], mean, atol=1e-5)
        assert found.score(X, COUNTS[:, 0]) == pytest.approx(
            expected.score(X, COUNTS[:, 0]), abs=1e-5
        )


def test_the_rule_of_one_standard_error_takes_the_greatest_strength_within_it():
    best, careful = search().fit(X, COUNTS), search(rule="one_se").fit(X, COUNTS)
    for k in range(N_NEURONS):
        table = np.stack([best.cv_results_[f"split{i}_test_score"][:, k] for i in range(3)])
        mean, at = table.mean(axis=0), best.best_index_[k]
        error = table[:, at].std(ddof=1) / np.sqrt(3)
        within = mean >= mean[at] - error
        assert careful.best_strength_[k] == best.cv_results_["strength"][within].max()
    assert (careful.best_strength_ >= best.best_strength_).all()


def test_a_weight_of_two_is_a_row_twice_for_the_choice():
    # the same rows in each fold, told apart by groups
    weight = np.arange(N_SAMPLES) % 2 + 1.0
    twice = np.repeat(np.arange(N_SAMPLES), weight.astype(int))
    groups = np.arange(N_SAMPLES) // 5
    weighted, repeated = (StrengthSearchCV(population(), STRENGTHS, _ByGroup()) for _ in range(2))
    weighted.fit(X, COUNTS, sample_weight=weight, groups=groups)
    repeated.fit(X[twice], COUNTS[twice], groups=groups[twice])
    # both stop within 1e-6 standard errors of the same optimum
    mean = (each.cv_results_["mean_test_score"] for each in (weighted, repeated))
    np.testing.assert_allclose(*mean, atol=1e-6)


class _ByGroup:
    def split(self, X, y, groups):
        for k in range(3):
            test = groups % 3 == k
            yield np.flatnonzero(~test), np.flatnonzero(test)


def test_groups_masks_offsets_and_missing_responses_are_those_of_a_fit():
    offset, groups = np.linspace(-1, 1, N_SAMPLES), np.arange(N_SAMPLES) % 7
    y = COUNTS.copy()
    y[5:20, 1] = np.nan
    mask = np.ones((4, N_NEURONS), int)
    mask[0, 1] = 0
    model = population(feature_mask=mask)
    found = StrengthSearchCV(model, [0.03, 0.01], GroupKFold(3))
    found.fit(X, y, offset=offset, groups=groups)
    [(train, test)] = list(GroupKFold(3).split(X, groups=groups))[:1]
    alone = clone(model).set_params(regularizer_strength=0.01)
    alone.fit(X[train], y[train], offset=offset[train])
    test = test[~np.isnan(y[test, 1])]
    score = alone.score(
        X[test], y[test], offset=offset[test], aggregate_sample_scores=lambda s: s.mean(axis=0)
    )[1]
    assert found.cv_results_["split0_test_score"][1, 1] == pytest.approx(float(score), abs=1e-6)
    assert found.best_estimator_.coef_[0, 1] == 0


def test_a_silent_neuron_costs_the_others_nothing():
    y = COUNTS.copy()
    y[:, 1] = 0.0
    expected = search().fit(X, COUNTS)
    with pytest.warns(RuntimeWarning, match="Neurons 1"):
        found = search().fit(X, y)
    others = [0, 2]
    np.testing.assert_array_equal(found.best_strength_[others], expected.best_strength_[others])
    assert np.isnan(found.best_strength_[1])
    coef = found.best_estimator_.coef_[:, others], expected.best_estimator_.coef_[:, others]
    np.testing.assert_allclose(*coef, atol=1e-6)


def test_a_neuron_that_is_silent_where_one_fold_trains_is_judged_by_the_others():
    y = COUNTS.copy()
    y[: 2 * N_SAMPLES // 3, 1] = 0.0  # silent unless the third fold trains
    found = search().fit(X, y)
    assert np.isnan(found.cv_results_["split2_test_score"][:, 1]).all()
    assert np.isfinite(found.best_strength_).all()
    mean = np.mean([found.cv_results_[f"split{k}_test_score"][:, 1] for k in range(2)], axis=0)
    np.testing.assert_allclose(found.cv_results_["mean_test_score"][:, 1], mean)


@pytest.mark.parametrize("name", ["ProxSVRG", "ProxNewton"])
def test_the_choice_is_that_of_the_optimum_whatever_the_solver(name):
    expected = search(refit=False).fit(X, COUNTS)
    model = population(solver_name=name, solver_kwargs={"tol": 1e-6})
    found = StrengthSearchCV(model, STRENGTHS, FOLDS, refit=False).fit(X, COUNTS)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], atol=1e-6
    )


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", ["Lasso", "ElasticNet", "GroupLasso"])
@pytest.mark.parametrize("face", FACES)
def test_a_path_begins_where_all_coefficients_vanish(face, regularizer):
    make, y, _ = FACES[face]
    start = REGULARIZERS[regularizer]
    model = make(regularizer=regularizer, regularizer_strength=start)
    found = StrengthSearchCV(model, cv=FOLDS, refit=False).fit(X, y)
    top = found.cv_results_["strength"][0]
    # fits end within 1e-6 standard errors, so that a hundredth of the strength cannot be missed
    for factor, nothing in ((1.01, True), (0.99, False)):
        value = (factor * top, start[1]) if isinstance(start, tuple) else factor * top
        coef = clone(model).set_params(regularizer_strength=value).fit(X, y).coef_
        assert (np.asarray(coef) == 0).all() == nothing


def test_a_path_of_ridge_begins_where_less_than_a_tenth_is_left_and_ends_where_nearly_all_is():
    y = RESPONSES["Gaussian"]
    like = {"observation_model": "Gaussian"}
    found = StrengthSearchCV(population("Ridge", 1.0, **like), cv=FOLDS, refit=False).fit(X, y)
    strongest, weakest = found.cv_results_["strength"][[0, -1]]
    free = nmo.glm.PopulationGLM(**like).fit(X, y)
    fits = (population("Ridge", float(s), **like).fit(X, y) for s in (strongest, weakest))
    length = [np.linalg.norm(np.asarray(fit.coef_), axis=0) for fit in (*fits, free)]
    assert (length[0] < 0.1 * length[2]).all()
    # a strength below a tenth of what one of 200 rows tells shrinks by less than a hundredth
    assert (length[1] > 0.99 * length[2]).all()


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "n_splits", "gap"), [(20, 4, 0), (23, 5, 2), (10, 2, 3)])
def test_blocks_cover_the_rows_once_and_train_beyond_the_gap_only(n, n_splits, gap):
    tested = []
    for train, test in BlockedKFold(n_splits, gap).split(np.zeros(n)):
        assert (np.diff(test) == 1).all()
        distance = np.abs(train[:, None] - test).min(axis=1)
        assert (distance > gap).all()
        outside = np.setdiff1d(np.arange(n), train)
        assert (np.abs(outside[:, None] - test).min(axis=1) <= gap).all()
        tested.extend(test)
    assert tested == list(range(n))


def test_blocks_serve_scikit_learn_too():
    scores = cross_val_score(nmo.glm.GLM(), X, COUNTS[:, 0], cv=BlockedKFold(3, gap=2))
    assert len(scores) == BlockedKFold(3).get_n_splits() == 3


# -- the interface ---------------------------------------------------------------------------------


def test_it_is_an_estimator_of_scikit_learn():
    found = search(rule="one_se")
    with pytest.raises(NotFittedError):
        check_is_fitted(found)
    with pytest.raises(NotFittedError):
        found.predict(X)
    copy = clone(found)
    assert copy.get_params(deep=False).keys() == found.get_params(deep=False).keys()
    assert copy.get_params()["estimator__regularizer_strength"] == 0.1
    found.fit(X, COUNTS)
    check_is_fitted(found)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict(X), found.best_estimator_.predict(X))
    assert found.score(X, COUNTS) == found.best_estimator_.score(X, COUNTS)
    assert found.n_splits_ == 3
    assert found.n_features_in_ == 4
    counts, _ = found.simulate(0, X)
    assert counts.shape == COUNTS.shape
    assert not hasattr(found, "predict_proba")


def test_classifiers_are_searched_as_classifiers():
    make, y, _ = FACES["ClassifierGLM"]
    names = np.array(["left", "right", "stay"])[y]
    found = StrengthSearchCV(make(), [0.3, 0.03], 3).fit(X, names)
    assert found.classes_.tolist() == ["left", "right", "stay"]
    assert found.predict_proba(X, "proba").shape == (N_SAMPLES, 3)
    # folds are stratified, as scikit-learn's are
    grid = GridSearchCV(make(), {"regularizer_strength": [0.3, 0.03]}, cv=3).fit(X, names)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], grid.cv_results_["mean_test_score"], atol=1e-6
    )
    assert cross_val_score(found, X, names, cv=2).shape == (2,)


def test_without_refit_there_is_a_strength_and_no_estimator():
    found = search(refit=False).fit(X, COUNTS)
    assert found.best_strength_.shape == (N_NEURONS,)
    assert not hasattr(found, "best_estimator_")
    assert not hasattr(found, "predict")


def test_a_picture_has_a_line_for_each_neuron_and_marks_its_choice():
    found = search().fit(X, COUNTS)
    axes = found.plot()
    lines = axes.get_lines()
    assert len(lines) == 2 * N_NEURONS
    assert [float(marks.get_xdata()[0]) for marks in lines[1::2]] == found.best_strength_.tolist()
    matplotlib.pyplot.close(axes.figure)


# -- what it refuses -------------------------------------------------------------------------------

BAD = {
    "a pipeline": ({"estimator": make_pipeline(nmo.glm.GLM())}, TypeError, "GridSearchCV"),
    "no penalty": ({"estimator": nmo.glm.PopulationGLM()}, ValueError, "no strength to search"),
    "a prior without strength": (
        {"estimator": nmo.glm.PopulationGLM(regularizer=nmo.regularizer.Normal())},
        ValueError,
        "Normal has no strength to search",
    ),
    "a strength of zero": ({"strengths": [0.1, 0.0]}, ValueError, "positive"),
    "a negative strength": ({"strengths": [-1.0]}, ValueError, "positive"),
    "no strengths": ({"strengths": []}, ValueError, "positive"),
    "one number": ({"strengths": 0.1}, ValueError, "list of different positive"),
    "a strength twice": ({"strengths": [0.1, 0.1]}, ValueError, "different"),
    "an infinite strength": ({"strengths": [np.inf, 1.0]}, ValueError, "positive"),
    "words": ({"strengths": ["strong"]}, TypeError, "numbers"),
    "an unknown rule": ({"rule": "worst"}, ValueError, "`rule`"),
    "a number for a truth": ({"per_neuron": 1}, TypeError, "`per_neuron`"),
    "refit by name": ({"refit": "score"}, TypeError, "`refit`"),
    "a scorer for each neuron": ({"scoring": "r2"}, ValueError, "per_neuron=False"),
    "an unknown scorer": ({"scoring": "good"}, ValueError, "good"),
    "no scorer": ({"scoring": 3}, TypeError, "`scoring`"),
    "one fold": ({"cv": 1}, ValueError, "folds"),
    "more folds than rows": ({"cv": N_SAMPLES + 1}, ValueError, "Use fewer folds"),
    "more blocks than rows": ({"cv": BlockedKFold(N_SAMPLES + 1)}, ValueError, "blocks"),
    "a gap as long as the data": ({"cv": BlockedKFold(2, N_SAMPLES)}, ValueError, "gap"),
    "tests that overlap": ({"cv": ShuffleSplit(9, test_size=0.5)}, ValueError, "two folds"),
    "a test that trains": ({"cv": [(range(9), range(8, 12))] * 2}, ValueError, "trains with rows"),
    "an empty test": ({"cv": [(range(9), [])] * 2}, ValueError, "no rows to test"),
    "rows that are not there": ({"cv": [(range(999), [0])] * 2}, ValueError, "row numbers"),
    "a row twice": ({"cv": [([1, 1], [0]), ([0], [1])]}, ValueError, "twice"),
    "no row numbers": ({"cv": [([0.5], [1]), ([0], [1])]}, ValueError, "pairs of row numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_searched_is_refused_before_anything_is_computed(name, monkeypatch):
    changes, error, match = BAD[name]
    found = search().fit(X, COUNTS)
    before = found.best_strength_, found.best_estimator_

    def run(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr(solvers, "run", run)
    with pytest.raises(error, match=match):
        found.set_params(**changes).fit(X, COUNTS)
    assert (found.best_strength_, found.best_estimator_) == before


def test_the_strengths_of_several_leaves_are_sent_to_a_grid_search():
    leaves = {"one": X[:, :2], "other": X[:, 2:]}
    model = population({"one": "Ridge", "other": "Ridge"})
    with pytest.raises(ValueError, match="of several leaves"):
        StrengthSearchCV(model, STRENGTHS, FOLDS).fit(leaves, COUNTS)


def test_groups_that_tie_neurons_are_sent_to_a_grid_search():
    mask = np.zeros((1, 4, N_NEURONS), int)
    mask[0, 0] = 1
    model = population(nmo.regularizer.GroupLasso(mask))
    with pytest.raises(ValueError, match="GridSearchCV"):
        StrengthSearchCV(model, STRENGTHS, FOLDS).fit(X, COUNTS)


@pytest.mark.parametrize(("n_splits", "gap"), [(1, 0), (2.0, 0), (3, -1), (True, 0), (3, 0.5)])
def test_blocks_that_are_none_are_refused(n_splits, gap):
    with pytest.raises(ValueError, match="must be an integer"):
        BlockedKFold(n_splits, gap)
