"""Standard errors that survive what the family gets wrong: unequal variances, groups of rows, dependence in time."""

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
import tables

import bayesglm as nmo
from bayesglm.glm import _robust

N = tables.N_SAMPLES
X = tables.X
Z = np.column_stack([X, np.ones(N)])
#: Groups of unequal size whose rows lie anywhere.
GROUPS = np.random.default_rng(3).permutation(
    np.repeat(np.arange(12), [13, *range(11, 20), 23, 29])
)
TRIALS = np.repeat(["a", "c", "b", "d"], [80, 60, 40, 20])
# Both fits are within 1e-6 standard errors of their optimum (test_stationarity), which moves errors by less.
RTOL = 1e-6


def fit(name, neuron=0, **weights):
    y = tables.RESPONSES[name][:, neuron]
    return nmo.glm.GLM(name).fit(X, y, **weights), y


def theirs(name, y, **how):
    family = {"Poisson": sm.families.Poisson(), "Bernoulli": sm.families.Binomial()}.get(name)
    if family is None:
        return sm.OLS(y, Z).fit(**how)
    return sm.GLM(y, Z, family=family).fit(tol=1e-14, **how)


# -- oracles ---------------------------------------------------------------------------------------


ORACLES = [
    *(("Gaussian", {"robust": kind}, {"cov_type": kind}) for kind in ("HC0", "HC1", "HC2", "HC3")),
    ("Gaussian", {}, {"cov_type": "nonrobust"}),
("Poisson", {"robust": "HC0"}, {"cov_type": "HC0"}),
    *((name, {"robust": "CR1", "groups": GROUPS},
       {"cov_type": "cluster", "cov_kwds": {"groups": GROUPS, "use_correction": True}})
      for name in ("Gaussian", "Poisson", "Bernoulli")),
    *((name, {"robust": "HAC", "maxlags": 7},
       {"cov_type": "HAC", "cov_kwds": {"maxlags": 7, "use_correction": True}})
      for name in ("Gaussian", "Poisson")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mine", "how"), ORACLES)
def test_errors_are_those_of_statsmodels(name, mine, how):
    model, y = fit(name)
    table, other = model.summary(X, y, **mine), theirs(name, y, **how)
    np.testing.assert_allclose(table["std_error"], other.bse, rtol=RTOL)
    if "cov_kwds" not in how and name == "Gaussian":
        assert (table["dof"] == N - 5).all()
    if how["cov_type"] == "nonrobust":
        np.testing.assert_allclose(table["p_value"], other.pvalues, rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(
            table[["low", "high"]], other.conf_int(0.06), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(("kind", "power"), [("HC2", 1.0), ("HC3", 2.0)])
def test_leverages_are_those_of_the_weighted_hat_matrix(kind, power):
    model, y = fit("Poisson")
    fitted = theirs("Poisson", y)
    leverage, mean = fitted.get_influence().hat_matrix_diag, fitted.mu
    inverse = np.linalg.inv((Z.T * mean) @ Z)
    middle = (Z.T * ((y - mean) ** 2 / (1.0 - leverage) ** power)) @ Z
    expected = np.sqrt(np.diag(inverse @ middle @ inverse))
    np.testing.assert_allclose(model.summary(X, y, robust=kind)["std_error"], expected, rtol=RTOL)


def test_dependence_ends_with_the_trial():
    """As if the rows of different trials lay further apart than dependence reaches."""
    model, y = fit("Gaussian")
    table = model.summary(X, y, robust="HAC", maxlags=4, trials=TRIALS)
    influence = (Z * (y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0])[:, None]) @ np.linalg.inv(
        Z.T @ Z
    )
    variance = np.zeros(5)
    for a in range(N):
        for b in range(max(0, a - 4), min(N, a + 5)):
            if TRIALS[a] == TRIALS[b]:
                variance += (1 - abs(a - b) / 5) * influence[a] * influence[b]
    np.testing.assert_allclose(table["std_error"], np.sqrt(variance * N / (N - 5)), rtol=RTOL)
    assert "4 trials" in table.attrs["interval"]


def test_jackknifed_errors_are_those_of_fits_without_a_group():
    """Exactly so for least squares, where one step of Newton's method is all."""
    model, y = fit("Gaussian")
    best = np.linalg.lstsq(Z, y, rcond=None)[0]
    moved = [
        np.linalg.lstsq(Z[GROUPS != g], y[GROUPS != g], rcond=None)[0] - best for g in range(12)
    ]
    expected = np.sqrt(11 / 12 * np.square(moved).sum(axis=0))
    table = model.summary(X, y, robust="cluster", groups=GROUPS)
    np.testing.assert_allclose(table["std_error"], expected, rtol=RTOL)
    assert (table["dof"] == 11).all()


# -- laws ------------------------------------------------------------------------------------------


FACES = {
    "Poisson": lambda: (nmo.glm.GLM("Poisson"), tables.RESPONSES["Poisson"][:, 0]),
    "Gamma": lambda: (nmo.glm.GLM("Gamma", "exp"), tables.RESPONSES["Gamma"][:, 0]),
    "population": lambda: (nmo.glm.PopulationGLM("Gaussian"), tables.RESPONSES["Gaussian"]),
    "Ridge": lambda: (nmo.glm.PopulationGLM("Bernoulli", None, "Ridge", 0.1), tables.RESPONSES["Bernoulli"]),
    "softmax": lambda: (nmo.glm.ClassifierGLM(3), tables.LABELS[:, 0]),
}  # fmt: skip
ALONE = np.arange(N).astype(str)


@pytest.mark.parametrize("face", FACES)
def test_groups_of_one_row_are_rows(face):
    model, y = FACES[face]()
    model.fit(X, y)
    errors = lambda robust, **how: model.summary(X, y, robust=robust, **how)["std_error"]  # noqa: E731
    np.testing.assert_allclose(errors("CR1", groups=ALONE), errors("HC1"), rtol=1e-9)
    jackknife = np.sqrt((N - 1) / N) * errors("HC3")
    np.testing.assert_allclose(errors("CR3", groups=ALONE), jackknife, rtol=1e-6)
    np.testing.assert_allclose(errors("HAC", maxlags=0), errors("HC1"), rtol=1e-9)
    each = errors("HAC", trials=ALONE)
    np.testing.assert_allclose(each, errors("HC1"), rtol=1e-9)
    np.testing.assert_array_equal(errors(True), errors("HC3"))
    between = np.sqrt(errors("HC0") * errors("HC3"))  # of the same sign, and to first order
    np.testing.assert_allclose(errors("HC2"), between, rtol=0.01)


@pytest.mark.parametrize("face", ["Poisson", "population", "softmax"])
@pytest.mark.parametrize("kind", ["HC3", "CR1", "CR3", "HAC"])
def test_rows_that_are_left_out_say_nothing(face, kind):
    """A missing row has no group; in time it is a gap, for whatever stands there."""
    (model, y), (other, _) = FACES[face](), FACES[face]()
    weight, groups = np.ones(N), np.array(GROUPS, float)
    weight[3::7], groups[3::7] = 0.0, np.nan
    how = {} if kind[0] == "H" else {"groups": groups}
    holes = np.where(weight[:, None] > 0, X, np.nan)
    one = model.fit(holes, y).summary(holes, y, robust=kind, **how)
    weights = {"sample_weight": weight}
    two = other.fit(X, y, **weights).summary(X, y, robust=kind, **how, **weights)
    np.testing.assert_allclose(one["std_error"], two["std_error"], rtol=1e-5)
    if kind != "HAC":
        kept = weight > 0
        how = {} if not how else {"groups": GROUPS[kept]}
        clean = FACES[face]()[0].fit(X[kept], y[kept]).summary(X[kept], y[kept], robust=kind, **how)
        np.testing.assert_allclose(one["std_error"], clean["std_error"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["HC3", "CR3", "HAC"])
def test_a_population_has_the_errors_of_its_neurons(kind, monkeypatch):
    y = tables.RESPONSES["Gaussian"].copy()
    y[::9, 1] = np.nan
    how = {"robust": kind} | ({"groups": GROUPS} if kind == "CR3" else {})
    table = nmo.glm.PopulationGLM("Gaussian").fit(X, y).summary(X, y, **how)
    for k in range(3):
        alone = nmo.glm.GLM("Gaussian").fit(X, y[:, k]).summary(X, y[:, k], **how)
        np.testing.assert_allclose(table[k::3], alone, rtol=1e-5, atol=1e-12)
    monkeypatch.setattr(_robust, "_BYTES", 1)  # a neuron at a time
    again = nmo.glm.PopulationGLM("Gaussian").fit(X, y).summary(X, y, **how)
    np.testing.assert_allclose(again, table, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["HC3", "CR3", "HAC"])
def test_masked_features_and_groups_of_neurons_change_nothing_for_errors(kind):
    """A masked feature is a deleted one; neurons in one group without a strength are neurons."""
    y, mask = tables.RESPONSES["Gaussian"], np.ones((4, 3), int)
    mask[1, 0] = mask[3, 2] = 0
    how = {"robust": kind} | ({"groups": GROUPS} if kind == "CR3" else {})
    groups = nmo.regularizer.GroupLasso(np.repeat(np.eye(4)[:, :, None], 3, axis=2))
    for regularizer, strength in (("UnRegularized", None), (groups, 0.0)):
        model = nmo.glm.PopulationGLM("Gaussian", None, regularizer, strength, feature_mask=mask)
        errors = model.fit(X, y).summary(X, y, **how)["std_error"].to_numpy().reshape(5, 3)
        for k in range(3):
            used = mask[:, k] > 0
            alone = nmo.glm.GLM("Gaussian").fit(X[:, used], y[:, k])
            expected = alone.summary(X[:, used], y[:, k], **how)["std_error"]
            np.testing.assert_allclose(errors[np.append(used, True), k], expected, rtol=1e-5)
            assert (errors[:4][~used, k] == 0).all()


HOW = {
    "information": {},
    "HC3": {"robust": True},
    "CR3": {"robust": "CR3", "groups": GROUPS},
    "HAC": {"robust": "HAC", "trials": TRIALS},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("name", "unit"), [("Gaussian", 1e3), ("Gamma", 1e-3)])
def test_units_of_data_are_those_of_errors(name, unit, how):
    """Coefficients are in units of a Gaussian response, and of the inverse of a Gamma one (whose link is 1/x)."""
    model, y = fit(name)
    units, y_more = np.array([1e-3, 1.0, 50.0, 1e4]), 1e3 * y
    plain = model.summary(X, y, **HOW[how])
    other = nmo.glm.GLM(name).fit(X * units, y_more).summary(X * units, y_more, **HOW[how])
    scale = unit / np.append(units, 1.0)
    for column in ("std_error", "low", "high"):
        np.testing.assert_allclose(other[column] / scale, plain[column], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other["p_value"], plain["p_value"], rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("how", HOW)
def test_where_features_start_is_the_intercepts_business(how):
    model, y = fit("Poisson")
    origin = np.array([3.0, -50.0, 0.0, 10.0])
    plain = model.summary(X, y, **HOW[how])
    other = nmo.glm.GLM("Poisson").fit(X + origin, y).summary(X + origin, y, **HOW[how])
    for column in ("std_error", "low", "high", "p_value"):
        np.testing.assert_allclose(other[column][:4], plain[column][:4], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["information", "HC3", "CR3"])
def test_rows_neurons_and_names_of_groups_have_no_order(how):
    order, neurons = np.random.default_rng(4).permutation(N), [2, 0, 1]
    y, more = tables.RESPONSES["Poisson"], HOW[how]
    plain = nmo.glm.PopulationGLM("Poisson").fit(X, y).summary(X, y, **more)
    if "groups" in more:
        more = more | {"groups": np.array(list("zyxwvutsrqpo"))[GROUPS[order]]}
    X_more, y_more = X[order], y[order][:, neurons]
    other = nmo.glm.PopulationGLM("Poisson").fit(X_more, y_more).summary(X_more, y_more, **more)
    given = plain.to_numpy().reshape(5, 3, -1)[:, neurons].reshape(15, -1)
    np.testing.assert_allclose(other, given, rtol=1e-5, atol=1e-6)


def test_dependence_in_time_widens_intervals_and_white_noise_does_not():
    """An autocorrelation of 0.8 multiplies the variance of a mean by (1 + 0.8) / (1 - 0.8) = 9."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 4000))
    for t in range(1, 4000):
        noise[1, t] += 0.8 * noise[1, t - 1]
    x = rng.normal(size=(4000, 1))
    ratios = []
    for y in noise:
        model = nmo.glm.GLM("Gaussian").fit(x, y)
        plain = model.summary(x, y)["std_error"]
        ratios.append(model.summary(x, y, robust="HAC")["std_error"] / plain)
    # The relative error of such a variance is about sqrt(4 (1 + rho) / ((1 - rho) n)): 0.1 here, and 0.03 without.
    np.testing.assert_allclose(ratios[0], 1.0, atol=0.1)
    np.testing.assert_allclose(ratios[1]["intercept"], 3.0, rtol=0.25)
    np.testing.assert_allclose(ratios[1]["coef[0]"], 1.0, atol=0.1)


# -- what cannot be --------------------------------------------------------------------------------


def test_a_row_that_decides_a_parameter_alone_has_no_errors_that_leave_it_out():
    design = np.column_stack([X, np.arange(N) == 17])
    model, y = nmo.glm.GLM("Gaussian"), tables.RESPONSES["Gaussian"][:, 0]
    model.fit(design, y)
    with pytest.warns(RuntimeWarning, match="HC3 errors do not exist.*HC1"):
        assert model.summary(design, y, robust=True)["std_error"].isna().all()
    with pytest.warns(RuntimeWarning, match="CR3 errors do not exist.*CR1"):
        assert model.summary(design, y, robust="cluster", groups=GROUPS)["std_error"].isna().all()
    assert np.isfinite(model.summary(design, y, robust="HC1")["std_error"]).all()


def test_tables_say_what_was_taken_for_granted():
    model, y = fit("Gaussian")
    table = model.summary(X, y)
    assert "Student's t with 195 degrees of freedom" in table.attrs["interval"]
    assert table.attrs["dispersion"]["how"] == "estimated from the residuals"
    np.testing.assert_allclose(table.attrs["dispersion"]["value"], model.scale_, rtol=1e-6)
    assert {"t", "p_value", "dof"} <= set(table)
    counts, y = fit("Poisson")
    table = counts.summary(X, y, robust="HAC")
    assert "rows in the order of time, 1 trial" in table.attrs["interval"]
    assert (table["maxlags"] >= 0).all()
    assert {"z", "p_value"} <= set(counts.summary(X, y))
    table = counts.summary(X, y, robust="cluster", groups=GROUPS)
    assert "rows of different groups independent; Student's t with 11" in table.attrs["interval"]
    negative = nmo.glm.GLM(nmo.observation_models.NegativeBinomialObservations(0.5)).fit(X, y)
    dispersion = negative.summary(X, y).attrs["dispersion"]
    assert dispersion["value"] == 0.5
    assert dispersion["how"].startswith("fixed at 0.5, not estimated")


BAD = {
    "unknown": ({"robust": "HC4"}, "`robust` must be one of"),
    "a number": ({"robust": 3}, "`robust` must be one of"),
    "no groups": ({"robust": "cluster"}, "needs `groups`"),
    "groups alone": ({"groups": GROUPS}, "`groups` go with `robust='cluster'`"),
    "short groups": ({"robust": "cluster", "groups": GROUPS[:5]}, r"shape \(200,\)"),
    "one group": ({"robust": "cluster", "groups": np.zeros(N)}, "two groups"),
    "a row without group": ({"robust": "CR1", "groups": np.append(GROUPS[1:].astype(float), np.nan)}, "row 199"),
    "trials alone": ({"trials": TRIALS}, "`trials` goes with"),
    "trials in pieces": ({"robust": "HAC", "trials": GROUPS}, "not consecutive"),
    "lags alone": ({"robust": True, "maxlags": 3}, "`maxlags` goes with"),
    "too many lags": ({"robust": "HAC", "maxlags": N}, "from 0 to 199"),
    "half a lag": ({"robust": "HAC", "maxlags": 0.5}, "must be an integer"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_arguments_that_do_not_go_together_are_refused(case):
    model, y = fit("Gaussian")
    how, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        model.summary(X, y, **how)


def test_a_row_happens_once_in_time():
    weights = {"sample_weight": np.full(N, 2.0)}
    model, y = fit("Gaussian", **weights)
    with pytest.raises(ValueError, match="happens once"):
        model.summary(X, y, robust="HAC", **weights)


def test_epochs_of_pynapple_are_trials():
    nap = pytest.importorskip("pynapple")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = np.array([79.5, 139.5, 179.5, 199.5])
        support = nap.IntervalSet(start=np.append(-0.5, ends[:-1] + 0.01), end=ends)
        frame = nap.TsdFrame(t=np.arange(N).astype(float), d=X, time_support=support)
    model, y = fit("Gaussian")
    how = {"robust": "HAC", "maxlags": 4}
    expected = model.summary(X, y, trials=TRIALS, **how)
    assert model.summary(frame, y, **how).equals(expected)
    tree = nmo.glm.GLM("Gaussian").fit({"a": frame}, y).summary({"a": frame}, y, **how)
    np.testing.assert_allclose(tree, expected, rtol=1e-6)
