"""A regularizer and a strength for each leaf of X: the prior, parameters, files, solvers, errors."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables
import textbook
from faces import FACES
from numpyro.infer.util import log_density
from own_priors import differences
from refused import assert_same_state, state_of
from saved import assert_same_model, round_trip
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from test_log_prior import assert_same as assert_same_log_priors
from test_log_prior import compared
from test_posterior_density import assert_same_density

import bayesglm as nmo
from bayesglm.glm import GLM, PopulationGLM
from bayesglm.regularizer import (
    GaussianProcess,
    GroupLasso,
    Laplace,
    Normal,
    PerLeaf,
    Ridge,
    Smooth,
)

N = 40
_rng = np.random.default_rng(11)
X = {
    "stimulus": tables.X[:N],
    "history": _rng.normal(size=(N, 2)),
    "coupling": _rng.normal(size=(N, 2)),
    "bias": _rng.normal(size=(N, 1)),
}
WIDTHS = {"bias": 1, "coupling": 2, "history": 2, "stimulus": 4}  # in the order of the matrix
MATRIX = np.concatenate([X[leaf] for leaf in WIDTHS], axis=1)
Y = tables.RESPONSES["Gaussian"][:N]
COUNTS = tables.RESPONSES["Poisson"][:N]
KINDS = {"stimulus": Smooth(), "history": "Ridge", "coupling": "GroupLasso"}
STRENGTHS = {"stimulus": 0.3, "history": 0.1, "coupling": 0.05}
HOW = {"regularizer": KINDS, "regularizer_strength": STRENGTHS}
MASK = {
    "stimulus": np.array([1, 0, 1]),
    "history": np.array([[1, 1, 0], [1, 1, 1]]),
    "coupling": np.array([[1, 0, 1], [1, 1, 1]]),
    "bias": np.array([1, 1, 1]),
}
QUIET = {"num_samples": 50, "num_chains": 2, "progress_bar": False, "random_key": 1}


def leaves_of(coef):
    ends = np.cumsum(list(WIDTHS.values()))
    return dict(zip(WIDTHS, np.split(np.asarray(coef), ends[:-1]), strict=True))


def penalty(coef, used=None):
    """That of one neuron, as a textbook has it."""
    used = np.ones(len(coef)) if used is None else used
    w, used = leaves_of(coef * used), leaves_of(used)
    smooth = 0.5 * STRENGTHS["stimulus"] * np.sum(np.diff(w["stimulus"], 2) ** 2)
    ridge = 0.5 * STRENGTHS["history"] * np.sum(w["history"] ** 2)
    size = np.sqrt(used["coupling"].sum())
    return smooth + ridge + STRENGTHS["coupling"] * size * np.linalg.norm(w["coupling"])


def face(name, **how):
    make, y, outputs = FACES[name]
    return make(**(HOW | how)), y[:N], outputs


def masked(name):
    """Masks of a population; a classifier's say the same of all classes."""
    if name == "PopulationGLM":
        return MASK
    full = {k: m if m.ndim == 2 else np.tile(m, (WIDTHS[k], 1)) for k, m in MASK.items()}
    return {k: np.repeat(m[..., None], 3, axis=2) for k, m in full.items()}


# -- the density -----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_mask", [False, True])
def test_the_contract_holds_leaf_by_leaf(with_mask, rng):
    phi = np.array([0.4, 1.7, 2.9])
    mask = MASK if with_mask else None
    model = PopulationGLM("Gaussian", feature_mask=mask, **HOW)
    joint = model.numpyro_model(X, Y, scale=phi)
    used = np.ones((9, 3))
    if with_mask:
        used = np.concatenate([np.broadcast_to(MASK[k], (WIDTHS[k], 3)) for k in WIDTHS])
    energies, densities = [], []
    for _ in range(2):
        coef, intercept = rng.normal(size=(9, 3)) * used, rng.normal(size=3)
        loss = np.mean((Y - MATRIX @ coef - intercept) ** 2, axis=0)
        each = [penalty(w, u) for w, u in zip(coef.T, used.T, strict=True)]
        energies.append(np.sum(N * 0.5 / phi * (loss + each)))
        with jax.enable_x64(True):
            values = {"coef": jnp.asarray(coef), "intercept": jnp.asarray(intercept)}
            densities.append(float(log_density(joint, (), {}, values)[0]))
    # sums of some hundred terms of order one to a hundred
    np.testing.assert_allclose(np.diff(energies), -np.diff(densities), rtol=1e-10)


def test_the_sampler_has_the_density_of_the_model_leaf_by_leaf(rng):
    assert_same_density(PopulationGLM("Gaussian", feature_mask=MASK, **HOW), Y, rng, X=X)


def test_log_priors_are_normalised_leaf_by_leaf(rng):
    _, found, rest = compared(PopulationGLM("Gaussian", **HOW), Y, rng, X=X)
    assert_same_log_priors(found, rest)


# -- fits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_one_regularizer_for_each_leaf_is_that_of_the_whole(kind):
    strength = tables.REGULARIZERS[kind]
    each = None if strength is None else dict.fromkeys(X, strength)
    leaves = PopulationGLM(regularizer=dict.fromkeys(X, kind), regularizer_strength=each)
    whole = PopulationGLM(regularizer=kind, regularizer_strength=strength)
    found, expected = (m.fit(X, COUNTS).coef_ for m in (leaves, whole))
    for leaf in X:  # within 1e-6 standard errors, of at most one
        np.testing.assert_allclose(found[leaf], expected[leaf], atol=3e-6)


def test_a_leaf_left_out_is_not_regularized_and_so_is_one_without_strength():
    some = {"history": "Ridge", "coupling": "Ridge"}
    strengths = {"history": 0.3, "coupling": 0.0}
    found = GLM(regularizer=some, regularizer_strength=strengths).fit(X, COUNTS[:, 0])
    each = {k: np.full(w, 0.3 if k == "history" else 0.0) for k, w in WIDTHS.items()}
    expected = GLM(regularizer="Ridge", regularizer_strength=each).fit(X, COUNTS[:, 0])
    for leaf in X:
        np.testing.assert_allclose(found.coef_[leaf], expected.coef_[leaf], atol=3e-6)


def test_groups_lie_within_their_leaf():
    groups = GroupLasso(np.array([[1, 0, 0, 0], [0, 1, 1, 1]]))
    kinds = {"stimulus": groups}
    found = GLM(regularizer=kinds, regularizer_strength={"stimulus": np.array([0.2, 0.05])})
    found.fit(X, COUNTS[:, 0])
    whole = {k: np.zeros((2, w)) for k, w in WIDTHS.items()} | {"stimulus": groups.mask}
    expected = GLM(regularizer=GroupLasso(whole), regularizer_strength=np.array([0.2, 0.05]))
    expected.fit(X, COUNTS[:, 0])
    np.testing.assert_allclose(found.coef_["stimulus"], expected.coef_["stimulus"], atol=3e-6)


def test_a_population_with_regularized_leaves_is_its_neurons():
    together = PopulationGLM(**HOW).fit(X, COUNTS)
    for k, y in enumerate(COUNTS.T):
        alone = GLM(**HOW).fit(X, y)
        for leaf in X:
            np.testing.assert_allclose(together.coef_[leaf][:, k], alone.coef_[leaf], atol=3e-6)


def test_all_proximal_solvers_find_the_same_optimum_with_kinks_in_some_leaves():
    kinds = KINDS | {"bias": Laplace(0.5)}
    fits = [
        GLM(regularizer=kinds, regularizer_strength=STRENGTHS, solver_name=solver).fit(
            X, COUNTS[:, 0]
        )
        for solver in ("ProximalGradient", "ProxNewton")
    ]
    one, other = (np.concatenate([m.coef_[leaf] for leaf in WIDTHS]) for m in fits)
    np.testing.assert_allclose(one, other, atol=3e-6)


@pytest.mark.parametrize("name", ["PopulationGLM", "ClassifierPopulationGLM"])
def test_estimators_fit_sample_and_report_leaf_by_leaf(name):
    """With masks; a penalty with a kink, a flat leaf and a dense precision beside one another."""
    model, y, _ = face(name, feature_mask=masked(name))
    if "Classifier" in name:  # whose softmax does not see what a singular precision leaves open
        proper = KINDS | {"stimulus": GaussianProcess(), "bias": Normal()}
        model.set_params(regularizer=proper, regularizer_strength=STRENGTHS)
    model.sample_posterior(X, y, method="laplace", **QUIET)
    assert np.isfinite(model.summary(X, y)["estimate"]).any()
    said = model.report(X, y, loo=False).to_dict()["settings"]
    assert "'history': Ridge()" in said["regularizer"]
    assert "'history': 0.1" in said["regularizer strength"]


def test_proximal_operators_and_penalties_of_ones_own_solvers_go_leaf_by_leaf():
    kind = PerLeaf(KINDS)
    with jax.enable_x64(True):
        params = ({k: jnp.asarray(_rng.normal(size=w)) for k, w in WIDTHS.items()}, jnp.zeros(1))
        prox = kind.get_proximal_operator(params, STRENGTHS)
        found, _ = prox(params, scaling=0.7)
        for leaf in KINDS:
            part = (params[0][leaf], params[1])
            alone = kind[leaf].get_proximal_operator(part, STRENGTHS[leaf])(part, scaling=0.7)
            np.testing.assert_allclose(found[leaf], alone[0], rtol=1e-12)
        np.testing.assert_array_equal(found["bias"], params[0]["bias"])
        value = kind.penalized_loss(lambda params: 0.0, params, STRENGTHS)(params)
        coef = np.concatenate([params[0][leaf] for leaf in WIDTHS])
        np.testing.assert_allclose(value, penalty(coef), rtol=1e-12)


# -- parameters ------------------------------------------------------------------------------------


def nested():
    tree = {"slow": {"x": X["stimulus"], "y": X["history"]}, "fast": X["coupling"]}
    kinds = {"slow": {"x": Smooth(1), "y": "Ridge"}, "fast": "Lasso"}
    return tree, GLM(regularizer=kinds, regularizer_strength={"slow": {"x": 0.2}, "fast": 0.1})


def test_a_dict_in_x_is_a_dict_of_regularizers():
    tree, model = nested()
    names = {k for k in model.get_params() if k.startswith("regularizer_strength__")}
    assert names == {f"regularizer_strength__{k}" for k in ("slow__x", "slow__y", "fast")}
    model.set_params(regularizer_strength__slow__y=0.3, regularizer__slow__x__order=2)
    assert model.regularizer_strength == {"slow": {"x": 0.2, "y": 0.3}, "fast": 0.1}
    assert repr(model.regularizer["slow"]) == "{'x': Smooth(), 'y': Ridge()}"
    flat = GLM(
        regularizer={"stimulus": Smooth(2), "history": "Ridge", "coupling": "Lasso"},
        regularizer_strength={"stimulus": 0.2, "history": 0.3, "coupling": 0.1},
    )
    flat.fit({k: X[k] for k in ("stimulus", "history", "coupling")}, COUNTS[:, 0])
    coef = model.fit(tree, COUNTS[:, 0]).coef_
    np.testing.assert_allclose(coef["slow"]["x"], flat.coef_["stimulus"], atol=3e-6)
    np.testing.assert_allclose(coef["fast"], flat.coef_["coupling"], atol=3e-6)


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("how", ["clone", "copy", "pickle", "file", "repr"])
def test_what_is_given_for_leaves_comes_back(name, how, tmp_path):
    model, y, _ = face(name)
    if how in ("pickle", "file"):
        model.fit(X, y)
    found = {
        "clone": lambda: clone(model),
        "copy": lambda: copy.deepcopy(model),
        "pickle": lambda: pickle.loads(pickle.dumps(model)),
        "file": lambda: round_trip(model, tmp_path / "model.npz"),
        "repr": lambda: clone(model).set_params(regularizer=eval(repr(model.regularizer))),
    }[how]()
    if how == "repr":
        found.set_params(regularizer_strength=STRENGTHS)
    assert repr(found) == repr(model)
    assert found.regularizer_strength == STRENGTHS
    if how in ("pickle", "file"):
        assert_same_model(found, model, X)
    found.set_params(regularizer__stimulus__order=1)
    assert model.regularizer["stimulus"].order == 2  # nothing is shared


def test_files_ask_for_regularizers_of_ones_own_by_leaf(tmp_path):
    class Mine(Ridge):
        """A class that a file knows by name only."""

    path = tmp_path / "model.npz"
    model = GLM(regularizer=KINDS | {"bias": Mine()}, regularizer_strength=STRENGTHS)
    model.save_params(path)
    with pytest.raises(ValueError, match="'Mine' of 'regularizer__bias'"):
        nmo.load_model(path)
    with pytest.warns(UserWarning, match="regularizer__bias"):
        found = nmo.load_model(path, mapping_dict={"regularizer__bias": Mine})
    assert isinstance(found.regularizer["bias"], Mine)


def test_set_params_changes_one_leaf_and_its_solver():
    model = GLM(regularizer={"stimulus": Smooth(), "history": "Ridge"})
    assert model.solver_name == "LBFGS"
    model.set_params(regularizer__history="Lasso", regularizer_strength__history=0.2)
    assert model.solver_name == "ProximalGradient"
    assert model.regularizer_strength == {"history": 0.2}
    model.set_params(
        regularizer__history="ElasticNet", regularizer_strength={"history": (0.2, 0.1)}
    )
    assert model.get_params()["regularizer_strength__history"] == (0.2, 0.1)
    model = GLM(regularizer={"history": "Ridge"}, solver_name="BFGS")
    with pytest.warns(UserWarning, match="falling back"):
        model.set_params(regularizer__history="Lasso")
    with pytest.raises(ValueError, match="Leaf 'history'.*'BFGS'.*not differentiable"):
        model.solver_name = "BFGS"


def test_a_grid_search_goes_over_the_strength_of_one_leaf():
    leaves = nmo.Leaves({"stimulus": slice(5, 9), "history": [3, 4]})
    kinds = {"stimulus": Smooth(), "history": "Ridge"}
    model = GLM(regularizer=kinds, regularizer_strength={"stimulus": 0.1, "history": 1.0})
    grid = {"glm__regularizer_strength__history": [0.01, 100.0]}
    found = GridSearchCV(make_pipeline(leaves, model), grid, cv=2).fit(MATRIX, COUNTS[:, 0])
    best = found.best_estimator_[-1].regularizer_strength
    assert best == {"stimulus": 0.1, "history": found.best_params_.popitem()[1]}
    assert len({*found.cv_results_["mean_test_score"]}) == 2


def test_strengths_left_out_are_the_default_and_named():
    model = GLM(regularizer=KINDS, regularizer_strength={"history": 0.1, "coupling": 0.05})
    with pytest.warns(UserWarning, match="Smooth of the leaf 'stimulus'; using 1.0"):
        found = model.fit(X, COUNTS[:, 0]).coef_
    expected = GLM(regularizer=KINDS, regularizer_strength=STRENGTHS | {"stimulus": 1.0})
    np.testing.assert_array_equal(
        found["stimulus"], expected.fit(X, COUNTS[:, 0]).coef_["stimulus"]
    )
    same = GLM(regularizer=KINDS, regularizer_strength=0.1).regularizer_strength
    assert same == dict.fromkeys(KINDS, 0.1)


# -- errors ----------------------------------------------------------------------------------------

BAD = {
    "unknown leaf": ({"stimulsu": "Ridge"}, None, ValueError, "no such leaf.*mean 'stimulus'"),
    "unknown name": ({"history": "Rigde"}, None, ValueError, "Leaf 'history'.*mean 'Ridge'"),
    "no leaf": ({}, None, ValueError, "at least one leaf"),
    "no regularizer": ({"history": 3}, None, TypeError, "Leaf 'history'.*3 was given"),
    "a branch": ({"history": {"a": "Ridge"}}, None, ValueError, "no such leaf"),
    "strength of another leaf": (
        {"history": "Ridge"}, {"bias": 1.0}, ValueError, "'bias', which is no leaf with a reg",
    ),
    "misspelt strength": (
        {"history": "Ridge"}, {"histroy": 1.0}, ValueError, "Did you mean 'history'",
    ),
    "strength of an unregularized leaf": (
        {"history": None, "bias": "Ridge"}, {"history": 1.0}, ValueError,
        "UnRegularized has no strength",
    ),
    "strength of an absolute prior": (
        {"history": Normal(), "bias": "Ridge"}, {"history": 1.0}, ValueError,
        "Normal has no strength",
    ),
    "negative": ({"history": "Ridge"}, {"history": -1.0}, ValueError, "Leaf 'history'.*non-neg"),
    "a pair": ({"history": "Ridge"}, {"history": (1.0, 0.5)}, ValueError, "pair for ElasticNet"),
    "too few features": ({"history": Smooth()}, None, ValueError, "Leaf 'history'.*at least 3"),
    "wrong shape": (
        {"history": "Ridge"}, {"history": np.ones(3)}, ValueError, r"Leaf 'history'.*\(3,\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_the_leaves_is_refused_before_anything_is_computed(case, monkeypatch):
    kinds, strengths, error, message = BAD[case]
    model = GLM(regularizer="Ridge", regularizer_strength=0.1).fit(X, COUNTS[:, 0])
    monkeypatch.setattr("bayesglm.glm._fitting.fit", None)
    before = state_of(model)
    with pytest.raises(error, match=message):
        GLM(regularizer=kinds, regularizer_strength=strengths).fit(X, COUNTS[:, 0])
    try:
        model.set_params(regularizer=kinds, regularizer_strength=strengths)
    except error:
        assert_same_state(state_of(model), before)


def test_a_dict_of_regularizers_wants_a_dict_x():
    model = GLM(regularizer={"history": "Ridge"}, regularizer_strength=0.1)
    with pytest.raises(ValueError, match=r"X is a single matrix.*bayesglm\.Leaves"):
        model.fit(MATRIX, COUNTS[:, 0])
    tree, _ = nested()
    model = GLM(regularizer={"slow": "Ridge"}, regularizer_strength=0.1)
    with pytest.raises(ValueError, match=r"a part with the leaves \['slow'\]\['x'\]"):
        model.fit(tree, COUNTS[:, 0])


def test_parameters_of_leaves_that_are_not_there_are_refused():
    model, before = GLM(**HOW), state_of(GLM(**HOW))
    for name in ("regularizer__hist", "regularizer_strength__hist", "regularizer__stimulus__odrer"):
        with pytest.raises(ValueError, match="Invalid parameter"):
            model.set_params(**{name: 1.0})
    assert list(state_of(model)["params"]) == list(before["params"])
    with pytest.raises(ValueError, match="one strength for all of X"):
        GLM(regularizer="Ridge").set_params(regularizer_strength__history=1.0)


def test_textbook_differences_are_those_of_the_leaf():
    w = _rng.normal(size=4)
    np.testing.assert_allclose(w @ differences(4, 2) @ w, np.sum(np.diff(w, 2) ** 2))
    assert textbook.penalty("Ridge", 2.0, w) == pytest.approx(w @ w)
