"""Any container, any dtype: what says the same thing gives the same fit, names are kept, and the rest is refused."""

import copy
import logging
import warnings

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import tables
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import bayesglm as nmo

N, P, NEURONS = 40, tables.N_FEATURES, tables.N_NEURONS
# quarters: exact in every precision, so that all containers hold the same numbers
X = np.round(4 * tables.X[:N]) / 4
COUNTS, LABELS = tables.RESPONSES["Poisson"][:N], tables.LABELS[:N]
NAMES, CELLS = ["speed", "head dir", "a/b", "N/A"], ["unit 7", "unit 3", "x,y"]
KEY = jax.random.key(1)

ESTIMATORS = {
    "GLM": (lambda: nmo.glm.GLM("Poisson", None, "Ridge", 0.1), COUNTS[:, 0]),
    "PopulationGLM": (lambda: nmo.glm.PopulationGLM("Poisson", None, "Ridge", 0.1), COUNTS),
    "ClassifierGLM": (lambda: nmo.glm.ClassifierGLM(3, None, "Ridge", 0.1), LABELS[:, 0]),
    "ClassifierPopulationGLM": (
        lambda: nmo.glm.ClassifierPopulationGLM(3, None, "Ridge", 0.1),
        LABELS,
    ),
}


def frame(values, names=None):
    return pd.DataFrame(values, columns=names or [f"c{i}" for i in range(np.shape(values)[1])])


def parameters(model):
    with jax.enable_x64(
        True
    ):  # as computed: otherwise what is shown is rounded to single precision
        parts = [*jax.tree.leaves(model.coef_), model.intercept_]
        return np.concatenate([np.ravel(part) for part in parts])


with_missing = X.copy()
with_missing[3, 1] = with_missing[7, 0] = np.nan


STRINGS = np.array(["left", "right", "stop"])[LABELS[:, 0]]


def test_missing_labels_are_missing_however_they_are_written():
    make, _ = ESTIMATORS["ClassifierGLM"]
    gone = np.arange(N) == 5
    expected = parameters(make().fit(X[~gone], STRINGS[~gone]))
    held = STRINGS.astype(object)
    for nothing in (None, np.nan, pd.NA, pd.NaT):
        held[5] = nothing
        np.testing.assert_allclose(parameters(make().fit(X, held)), expected, atol=1e-7)
    hidden = np.ma.array(LABELS[:, 0], mask=gone)
    number = parameters(make().fit(X[~gone], LABELS[~gone, 0]))
    np.testing.assert_allclose(parameters(make().fit(X, hidden)), number, atol=1e-7)


# -- names ------------------------------------------------------------------------------------------


def named(y, kind=pd.DataFrame):
    return kind(dict(zip(CELLS, y.T, strict=True))) if y.ndim == 2 else y


@pytest.fixture(scope="module", params=[*ESTIMATORS, "polars"])
def of_frames(request):
    """An estimator of data frames, with draws."""
    make, y = ESTIMATORS["PopulationGLM" if request.param == "polars" else request.param]
    kind = pl.DataFrame if request.param == "polars" else pd.DataFrame
    rows = kind(dict(zip(NAMES, X.T, strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # how good so few draws are does not matter
        model = make().sample_posterior(
            rows, named(y, kind), method="laplace", num_samples=50, num_chains=2, progress_bar=False
        )
    return model, rows, named(y, kind)


def test_names_are_in_every_table(of_frames, tmp_path):
    model, rows, y = of_frames
    assert list(model.feature_names_in_) == NAMES
    assert model.n_features_in_ == P
    population = np.ndim(y) == 2
    cell = f", {CELLS[1]}" if population else ""
    fresh = nmo.load_model(_saved(model, tmp_path))
    for table in (model.summary(), model.summary(rows, y), fresh.summary(rows, y)):
        assert any(name.startswith(f"coef[head dir{cell}") for name in table.index)
    data = model.posterior_["posterior"]
    assert list(data["feature"].values) == NAMES
    report = model.report(rows, y)
    if population:
        assert list(data["neuron"].values) == CELLS
        assert set(report.table.index) == set(CELLS)
        assert list(model.loo(rows, y, by_neuron=True)) == CELLS
    assert "head dir" in report._repr_html_()
    fresh.posterior_ = model.posterior_
    model.posterior_.to_netcdf(tmp_path / "draws.nc")
    fresh.posterior_ = tmp_path / "draws.nc"
    assert fresh.summary().index.equals(model.summary().index)


def _saved(model, folder):
    model.save_params(folder / "model.npz")
    return folder / "model.npz"


def speaking(model, rows, y):
    """Everything that takes rows of an earlier fit."""
    yield "predict", lambda r, _: model.predict(r)
    yield "simulate", lambda r, _: model.simulate(KEY, r)
    yield "score", lambda r, y: model.score(r, y)
    yield "summary", lambda r, y: model.summary(r, y)
    yield "loo", lambda r, y: model.loo(r, y)
    yield "report", lambda r, y: model.report(r, y, loo=False)
    if hasattr(model, "predict_proba"):
        yield "predict_proba", lambda r, _: model.predict_proba(r)


def test_other_columns_are_refused(of_frames):
    model, rows, y = of_frames
    for method, call in speaking(model, rows, y):
        for wrong in (rows[NAMES[::-1]], rows[NAMES[:-1]]):
            with pytest.raises(ValueError, match="feature names should match"):
                call(wrong, y)
        if np.ndim(y) == 2 and method in ("score", "summary", "loo", "report"):
            with pytest.raises(ValueError, match="in another order"):
                call(rows, y[CELLS[::-1]])


def test_rows_without_names_are_taken_with_a_warning(of_frames):
    model, rows, _ = of_frames
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = model.predict(X)
    np.testing.assert_array_equal(found, model.predict(rows))


def test_leaves_have_names_of_their_own():
    make, y = ESTIMATORS["GLM"]
    rows = frame(X, NAMES)
    tree = {"stimulus": rows[NAMES[:2]], "history": X[:, 2:]}
    model = make().fit(tree, y)
    labels = ["history[0]", "history[1]", "stimulus[speed]", "stimulus[head dir]"]
    assert list(model.summary(tree, y).index[:-1]) == [f"coef[{label}]" for label in labels]
    with pytest.raises(ValueError, match=r"X\['stimulus'\] are not those of the fit: they are in"):
        model.predict(tree | {"stimulus": rows[["head dir", "speed"]]})


@pytest.mark.parametrize("columns", [["a", 1, "b", 2], ["a", "a", "b", "c"]])
def test_ambiguous_names_are_refused(columns):
    with pytest.raises((TypeError, ValueError), match="column"):
        nmo.glm.GLM().fit(pd.DataFrame(X, columns=columns), COUNTS[:, 0])


def test_the_numbers_of_units_are_the_names_of_neurons():
    model = nmo.glm.PopulationGLM().fit(X, pd.DataFrame(COUNTS, columns=[12, 7, 9]))
    assert list(model.report().table.index.sort_values()) == [7, 9, 12]


def test_warnings_name_neurons():
    silent = np.column_stack([COUNTS[:, 0], np.zeros(N), COUNTS[:, 2]])
    with pytest.warns(RuntimeWarning, match="Neurons unit 3: could not be fitted"):
        nmo.glm.PopulationGLM().fit(X, named(silent))
    with pytest.raises(ValueError, match="of neurons unit 3 is improper"):
        nmo.glm.PopulationGLM().sample_posterior(X, named(silent), progress_bar=False)


# -- rows left out ----------------------------------------------------------------------------------


def test_rows_left_out_are_said_once(caplog):
    make, y = ESTIMATORS["PopulationGLM"]
    y = y.copy()
    y[4, 1] = np.nan
    with caplog.at_level(logging.INFO, logger="bayesglm"):
        make().fit(with_missing, named(y))
    said = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(said) == 1
    assert "2 of 40 rows" in said[0]
    assert "1 response" in said[0]
    assert CELLS[1] in said[0]
    report = make().fit(with_missing, named(y)).report(with_missing, named(y))
    assert said[0] in " ".join(str(report).split())
    assert said[0] in report.to_dict()["headline"]
    assert said[0] in report._repr_html_()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bayesglm"):
        make().fit(X, COUNTS)
    assert not [r for r in caplog.records if "left out" in r.getMessage()]


# -- what is refused --------------------------------------------------------------------------------


def fit(X, y, **how):
    return nmo.glm.PopulationGLM().fit(X, y, **how)


REFUSED = {
    "infinite response": (
        lambda: fit(X, np.where(COUNTS > 2, np.inf, COUNTS)),
        ValueError,
        "finite",
    ),
    "three dimensions": (lambda: fit(X[..., None], COUNTS), ValueError, r"reshape\(len\(X\), -1\)"),
    "sparse": (lambda: fit(scipy.sparse.csr_array(X), COUNTS), TypeError, r"toarray\(\)"),
    "complex": (lambda: fit(X + 0j, COUNTS), ValueError, "Complex data not supported"),
    "strings": (lambda: fit(X.astype(str), COUNTS), TypeError, "numeric"),
    "objects": (lambda: fit(X.astype(str).astype(object), COUNTS), TypeError, "must be a number"),
    "categories": (
        lambda: fit(frame(X).assign(kind=pd.Categorical(["x"] * N)), COUNTS),
        TypeError,
        r"X\['kind'\].*get_dummies",
    ),
    "no neurons": (lambda: fit(X, COUNTS[:, :0]), ValueError, "no neurons"),
    "no responses": (lambda: fit(X, None), ValueError, "requires y"),
    "negative weight": (
        lambda: fit(X, COUNTS, sample_weight=-np.ones(N)),
        ValueError,
        "non-negative",
    ),
    "missing weight": (
        lambda: fit(X, COUNTS, sample_weight=np.ma.array(np.ones(N), mask=np.arange(N) == 3)),
        ValueError,
        "finite",
    ),
    "absurd weight": (
        lambda: fit(X, COUNTS, sample_weight=np.full(N, 1e20)),
        ValueError,
        "number of times",
    ),
    "link for its inverse": (
        lambda: nmo.glm.GLM(inverse_link_function="log"),
        ValueError,
        "inverse of the link 'log' is 'exp'",
    ),
    "family nearly": (lambda: nmo.glm.GLM("poison"), ValueError, "Did you mean 'Poisson'"),
    "regularizer nearly": (
        lambda: nmo.glm.GLM(regularizer="laso"),
        ValueError,
        "Did you mean 'Lasso'",
    ),
    "link nearly": (
        lambda: nmo.glm.GLM(inverse_link_function="soft_plus"),
        ValueError,
        "Did you mean 'softplus'",
    ),
    "continuous labels": (
        lambda: nmo.glm.ClassifierGLM(3).fit(X, X[:, 0]),
        ValueError,
        "continuous",
    ),
    "random key": (
        lambda: fit(X, COUNTS).simulate("seed", X),
        TypeError,
        "integer seed",
    ),
}


FITTED = nmo.glm.PopulationGLM("Poisson", None, "Ridge", 0.1).fit(X, COUNTS)


def sample(**how):
    return copy.copy(FITTED).sample_posterior(X, COUNTS, method="laplace", **how)


def put(name, value):
    setattr(copy.copy(FITTED), name, value)


REFUSED |= {
    "an integer without a float": (
        lambda: fit(X.astype(int).astype(object) * 10**400, COUNTS),
        ValueError,
        "too large for float64",
    ),
    "generator": (lambda: fit((row for row in X), COUNTS), TypeError, "gone after one pass"),
    "coefficients from a generator": (
        lambda: put("coef_", (row for row in X)),
        TypeError,
        "gone after one pass",
    ),
    "columns twice": (
        lambda: fit(X, COUNTS, offset=pd.DataFrame(np.zeros((N, 3)), columns=list("aba"))),
        ValueError,
        "`offset` has more than one column named 'a'",
    ),
    "neurons that look the same": (
        lambda: fit(X, pd.DataFrame(COUNTS, columns=[1, "1", 2])),
        ValueError,
        "more than one column named '1'",
    ),
    "a name with a NUL": (lambda: fit(frame(X, [*"abc", "\0"]), COUNTS), ValueError, "NUL"),
    "a neuron with a NUL": (
        lambda: fit(X, pd.DataFrame(COUNTS, columns=["a", "b", "b\0"])),
        ValueError,
        "NUL",
    ),
    "a label with a NUL": (
        lambda: nmo.glm.ClassifierGLM(3).set_classes(np.array(["a", "b", "b\0"], dtype=object)),
        ValueError,
        "NUL",
    ),
    "half a surrogate pair": (
        lambda: fit(frame(X, [*"abc", "\ud800"]), COUNTS),
        ValueError,
        "surrogate",
    ),
    "complex coefficients": (lambda: put("coef_", X[:, :3] + 1j), ValueError, "Complex"),
    "complex intercepts": (lambda: put("intercept_", np.ones(3) + 1j), ValueError, "Complex"),
    "intercepts of text": (
        lambda: put("intercept_", pd.Series(["x", "y", "z"])),
        TypeError,
        "numeric",
    ),
    "an offset in the wrong place": (
        lambda: FITTED.predict(X, np.zeros(N)),
        TypeError,
        "predict\\(X, offset=",
    ),
    "a score that is a frame": (
        lambda: FITTED.score(X, COUNTS, frame(X)),
        NotImplementedError,
        "score_type",
    ),
    "errors that are a frame": (
        lambda: FITTED.summary(X, COUNTS, robust=frame(X)),
        ValueError,
        "robust",
    ),
    "neurons of another model": (
        lambda: FITTED.summary(X, COUNTS[:, [0, 1, 2, 0]]),
        ValueError,
        "Inconsistent number of neurons",
    ),
    "a report of another model": (
        lambda: FITTED.report(X, COUNTS[:, [0, 1, 2, 0]]),
        ValueError,
        "Inconsistent number of neurons",
    ),
    "more draws than memory": (
        lambda: sample(num_chains=10**400),
        ValueError,
        r"num_chains.*2\*\*31",
    ),
    "a method that is a frame": (
        lambda: copy.copy(FITTED).sample_posterior(X, COUNTS, method=frame(X)),
        ValueError,
        "`method` must be",
    ),
    "a prior that is none": (
        lambda: sample(intercept_prior=np.ones(N)),
        TypeError,
        "must be a NumPyro distribution",
    ),
    "more classes than anything": (
        lambda: nmo.glm.ClassifierGLM(10**400),
        ValueError,
        "number of classes must be an integer",
    ),
    "a seed of many digits": (
        lambda: FITTED.simulate(10**400, X),
        TypeError,
        "integer seed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_input_is_refused_with_the_way_out(case):
    call, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        call()


def test_a_regularizer_of_nemos_is_named():
    foreign = type("Ridge", (), {"__module__": "nemos.regularizer"})()
    with pytest.raises(TypeError, match=r"NeMoS's Ridge.*bayesglm\.regularizer\.Ridge"):
        nmo.glm.GLM(regularizer=foreign)


def test_a_file_of_nemos_is_named(tmp_path):
    np.savez(
        tmp_path / "other.npz",
        coef_=np.zeros(3),
        intercept_=np.zeros(1),
        model_class="nemos.glm.GLM",
    )
    with pytest.raises(ValueError, match="written by NeMoS.*set its `coef_`"):
        nmo.load_model(tmp_path / "other.npz")


@pytest.mark.parametrize("call", [nmo.load_model, lambda name: fit(X, COUNTS).save_params(name)])
def test_bytes_are_no_file_name(call):
    with pytest.raises(TypeError, match="fsdecode"):
        call(b"model.npz")


def test_an_integer_is_a_random_key():
    model = fit(X, COUNTS)
    one, other = model.simulate(5, X), model.simulate(jax.random.key(5), X)
    np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("huge", [1e300, np.inf])
def test_what_overflows_does_so_without_foreign_warnings(huge):
    rows, counts = X.copy(), COUNTS.copy()
    rows[0, 0] = huge
    make, y = ESTIMATORS["ClassifierGLM"]
    assert make().fit(X, y).predict_proba(rows).shape == (N, 3)
    model = copy.copy(FITTED)
    model.coef_ = np.full((P, NEURONS), 1e300)
    assert np.isinf(model.coef_).all()  # as single precision shows it
    if np.isfinite(huge):
        counts[0] = huge
        assert np.isinf(FITTED.score(X, counts))
        assert np.isinf(FITTED.compute_loss((FITTED.coef_, FITTED.intercept_), X, counts))


# -- scikit-learn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [np.asarray, lambda a: frame(a, NAMES)], ids=["matrix", "frame"])
def test_a_dict_of_leaves_works_in_searches(hold):
    rows, y = hold(X), COUNTS[:, 0]
    columns = {"stimulus": [0, 1], "history": slice(2, 4)}
    if isinstance(rows, pd.DataFrame):
        columns["stimulus"] = NAMES[:2]
    model = make_pipeline(nmo.Leaves(columns), nmo.glm.GLM(regularizer="Ridge"))
    grid = {"glm__regularizer_strength": [0.01, 1.0]}
    found = GridSearchCV(model, grid, cv=3).fit(rows, y)
    best = found.best_params_["glm__regularizer_strength"]
    flat = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=best).fit(X, y)
    np.testing.assert_allclose(found.predict(rows), flat.predict(X), rtol=1e-5)
    assert set(found.best_estimator_[-1].coef_) == set(columns)


@pytest.mark.parametrize(
    ("leaves", "kind", "message"),
    [
        (["a"], TypeError, "must be a dict"),
        ({}, ValueError, "empty"),
        ({"a": ["sped"]}, ValueError, "Did you mean 'speed'"),
        ({"a": [7]}, ValueError, "has 4 columns"),
    ],
)
def test_leaves_that_are_not_there_are_refused(leaves, kind, message):
    with pytest.raises(kind, match=message):
        nmo.Leaves(leaves).fit(frame(X, NAMES))


def test_leaves_of_other_columns_are_refused():
    leaves = nmo.Leaves({"a": [0]}).fit(frame(X, NAMES))
    with pytest.raises(ValueError, match="in the order of `fit`"):
        leaves.transform(frame(X, NAMES[::-1]))


def test_probabilities_serve_the_tools_of_scikit_learn():
    make, y = ESTIMATORS["ClassifierGLM"]
    model = make()
    logs = np.asarray(model.fit(X, y).predict_proba(X))
    assert (logs <= 0).all()  # the documented default
    model.set_proba_output("proba")
    np.testing.assert_allclose(model.predict_proba(X), np.exp(logs), rtol=1e-5)
    np.testing.assert_array_equal(model.predict_proba(X, "log-proba"), logs)
    with jax.enable_x64(True):  # scikit-learn wants rows that sum to one in double precision
        score = cross_val_score(model, X, y, cv=3, scoring="neg_log_loss")
    # a fold's mean log-probability of its labels, by hand
    from sklearn.model_selection import StratifiedKFold

    for found, (train, test) in zip(score, StratifiedKFold(3).split(X, y), strict=True):
        fold = make().fit(X[train], y[train])
        by_hand = np.asarray(fold.predict_proba(X[test]))[np.arange(len(test)), y[test]].mean()
        np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    for tool in (
        VotingClassifier([("a", model), ("b", make().set_proba_output("proba"))], voting="soft"),
        CalibratedClassifierCV(model, cv=3),
    ):
        proba = tool.fit(X, y).predict_proba(X)
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-5)
    with pytest.raises(ValueError, match="'log-proba' or 'proba'"):
        model.set_proba_output("logits")
