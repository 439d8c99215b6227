"""Lanes of (response, fold): each is a fit of its own, whatever it shares its rows with."""

from functools import partial

import numpy as np
import pytest
from own_priors import OWN
from sklearn.model_selection import KFold, TimeSeriesSplit
from tables import LABELS, N_SAMPLES, REGULARIZERS, RESPONSES, X

import bayesglm as nmo
from bayesglm import _design
from bayesglm.model_selection import BlockedKFold
from bayesglm.rows import Data, Matrix, Shards

FOLDS = list(KFold(3).split(X))
#: Each fit stops within 1e-6 standard errors of its optimum, and these are below 0.2: information of a row is at least
#: a quarter, of 133 rows. Two of them differ by twice that.
CLOSE = 2 * 1e-6 * 0.2
LINKS = {"Gamma": "softplus"}  # whose mean stays positive on this design

rng = np.random.default_rng(5)
WEIGHT = rng.integers(0, 3, N_SAMPLES).astype(float)
OFFSET = rng.normal(size=N_SAMPLES)


def strengths_of(strength):
    at = strength[0] if isinstance(strength, tuple) else strength
    return np.array([5.0, 1.0, 0.2]) * at


def both(make, regularizer, X, y, folds=FOLDS, weight=None, offset=None, strength=None):
    """The grid, and the same of fits that give no weight to what a fold leaves out."""
    start = REGULARIZERS[regularizer] if strength is None else strength
    strengths = strengths_of(start)
    found = make(regularizer=regularizer, regularizer_strength=start).__strength_search__(
        X, y, strengths, folds, weight, offset
    )
    fits = np.empty((len(strengths), len(folds)), object)
    for s, strength in enumerate(strengths):
        value = (strength, start[1]) if isinstance(start, tuple) else strength
        for k, (train, _) in enumerate(folds):
            own = np.zeros(len(y))
            own[train] = 1.0 if weight is None else weight[train]
            model = make(regularizer=regularizer, regularizer_strength=value)
            fits[s, k] = model.fit(X, y, sample_weight=own, offset=offset)
    return found, fits


def assert_same(found, fits, close=CLOSE):
    tree = found.layout.tree
    for index, model in np.ndenumerate(fits):
        for mine, theirs in zip(
            map(np.asarray, _leaves(tree(found.grid.coef[index]))),
            _leaves(model.coef_),
            strict=True,
        ):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=close)
        mine = np.atleast_1d(found.grid.intercept[index])
        np.testing.assert_allclose(mine, model.intercept_, rtol=0, atol=close)
        # of the order of one, and a smooth function of the coefficients
        np.testing.assert_allclose(found.grid.scale[index], model.scale_, rtol=10 * close)
    assert found.grid.converged.all()


def _leaves(tree):
    return tree.values() if isinstance(tree, dict) else [tree]


def population(family, **more):
    link = LINKS.get(family)
    return partial(
        nmo.glm.PopulationGLM, observation_model=family, inverse_link_function=link, **more
    )


KINKED_AND_NOT = tuple(name for name, strength in REGULARIZERS.items() if strength is not None)


@pytest.mark.parametrize("regularizer", KINKED_AND_NOT)
@pytest.mark.parametrize("family", RESPONSES)
def test_a_lane_is_the_fit_without_the_rows_that_its_fold_leaves_out(family, regularizer):
    assert_same(*both(population(family), regularizer, X, RESPONSES[family]))


@pytest.mark.parametrize("regularizer", ["Ridge", "GroupLasso"])
@pytest.mark.parametrize("kind", ["GLM", "ClassifierGLM", "ClassifierPopulationGLM"])
def test_so_it_is_for_one_response_and_for_classes(kind, regularizer):
    many = {"n_classes": 3} if "Classifier" in kind else {}
    y = LABELS if many else RESPONSES["Poisson"]
    y = y if "Population" in kind else y[:, 0]
    assert_same(*both(partial(getattr(nmo.glm, kind), **many), regularizer, X, y))


@pytest.mark.parametrize("name", [name for name, (_, strength) in OWN.items() if strength])
def test_so_it_is_for_priors_of_ones_own(name):
    regularizer, strength = OWN[name]
    found = both(population("Poisson"), regularizer, X, RESPONSES["Poisson"], strength=strength)
    assert_same(*found)


def with_gaps(y):
    y = y.copy()
    y[::7, 0] = np.nan
    return y


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ("weights", {"weight": WEIGHT}),
        ("offsets", {"offset": OFFSET}),
        ("an offset of each neuron", {"offset": OFFSET[:, None] * [1.0, -1.0, 0.5]}),
        ("missing responses", {}),
        ("masks", {}),
        ("a dictionary of features", {}),
        ("folds with gaps", {"folds": list(BlockedKFold(3, gap=60).split(X))}),
        ("folds that only look back", {"folds": list(TimeSeriesSplit(3).split(X))}),
        ("more lanes than a chunk", {"folds": list(KFold(12).split(X))}),
        ("a file", {}),
    ],
)
def test_so_it_is_with(change, more, tmp_path, monkeypatch):
    make, design, y = population("Poisson"), X, RESPONSES["Poisson"]
    if change == "missing responses":
        y = with_gaps(y)
    if change == "masks":
        make = population("Poisson", feature_mask=np.eye(4, 3) == 0)
    if change == "a dictionary of features":
        design = {"a": X[:, :3], "b": X[:, 3:]}
    if change == "a file":
        monkeypatch.setattr(_design, "_READ_BYTES", X.nbytes // 3)
        design = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", shape=X.shape)
        design[:] = X
    assert_same(*both(make, "Lasso", design, y, **more))


def test_so_it_is_in_single_precision():
    # sums of 133 products of order one are off by some units of 1e-7 each, and coefficients by as much
    single = X.astype(np.float32), RESPONSES["Poisson"].astype(np.float32)
    assert_same(*both(population("Poisson"), "Lasso", *single), close=1e-5)


def test_so_it_is_where_the_dispersion_is_part_of_the_loss():
    model = nmo.observation_models.NegativeBinomialObservations(scale="estimate")
    make = partial(nmo.glm.PopulationGLM, observation_model=model)
    # the dispersion settles to a millionth of its standard error, which is of its own order
    assert_same(*both(make, "Ridge", X, RESPONSES["NegativeBinomial"]), close=1e-5)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("family", RESPONSES)
def test_scores_are_mean_log_likelihoods_of_the_rows_that_a_fold_tests(family, weight):
    y = RESPONSES[family]
    found, fits = both(population(family), "Ridge", X, y, weight=weight)
    for (s, k), model in np.ndenumerate(fits):
        test = FOLDS[k][1]
        for neuron in range(y.shape[1]):
            alone = y[test].copy()
            alone[:, np.arange(y.shape[1]) != neuron] = np.nan
            own = {} if weight is None else {"sample_weight": weight[test]}
            expected = float(model.score(X[test], alone, **own))  # shown in float32
            assert found.grid.score[s, k, neuron] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_lanes_keep_each_response_once_and_only_move_their_names():
    y = np.arange(12.0).reshape(2, 1, 6)
    data = Data(Matrix(np.ones((6, 1))), y, np.ones((1, 1, 6)), None, np.ones((2, 1, 1)))
    whole = Shards((data,), 6, 2, 1, np.dtype(float), np.zeros(1))
    folds = whole.with_folds(np.array([[0, 0, 0, 1, 1, 1]], np.uint8))
    lanes = folds.naming(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    lanes = lanes.with_scale(np.ones((4, 1)))
    fewer = lanes.select(np.array([3, 1]))
    assert fewer.parts[0].y is y
    assert fewer.parts[0].which.tolist() == [1, 1, 0, 0]
    assert fewer.parts[0].left_out.tolist() == [1, 0, 0, 1]
    assert fewer.parts[0].fold.dtype == np.uint8
