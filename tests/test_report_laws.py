"""Laws of the report: its numbers and verdicts do not depend on how the same data are written down."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
import tables

import bayesglm as nmo
from bayesglm.glm import _reporting

LINKS = {"Gamma": "exp"}
FAMILIES = tuple(tables.RESPONSES)
N = tables.N_SAMPLES
HALF = N // 2  # where other rows are needed, so that there are two shapes in all
# Fits of the same data stop anywhere within `tol` standard errors of the optimum; shares of what could be explained,
# which start at zero, change with the distance itself.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
_rng = np.random.default_rng(5)


def fitted(family, X, y, **keywords):
    """A model, fitted closely: laws compare optima."""
    single = np.ndim(y) == 1 + (family == "Binomial")
    kind = nmo.glm.GLM if single else nmo.glm.PopulationGLM
    model = kind(family, LINKS.get(family), solver_kwargs={"tol": 1e-9})
    return model.fit(X, y, **keywords)


def reported(family, X, y, time=None, trials=None, **keywords):
    return fitted(family, X, y, **keywords).report(X, y, time=time, trials=trials, **keywords)


def same(one, other, order=slice(None), but=()):
    """Assert that two reports say the same, of neurons in another order."""
    assert set(one.checks) - set(but) == set(other.checks) - set(but)
    for name, check in one.checks.items():
        if name in but:
            continue
        np.testing.assert_allclose(
            check.values[order], other.checks[name].values, err_msg=name, **CLOSE
        )
        np.testing.assert_array_equal(check.grades[order], other.checks[name].grades, err_msg=name)
    for name, values in one.numbers.items():
        np.testing.assert_allclose(values[order], other.numbers[name], err_msg=name, **CLOSE)
    if not but:
        assert one.verdict == other.verdict


@pytest.fixture(scope="module")
def plain():
    found = {}

    def report(family):
        if family not in found:
            found[family] = reported(family, tables.X, tables.RESPONSES[family])
        return found[family]

    return report


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_of_rows_and_neurons_does_not_matter(family, plain):
    rows, neurons = _rng.permutation(N), np.array([2, 0, 1])
    y = tables.RESPONSES[family][rows][:, neurons]
    same(plain(family), reported(family, tables.X[rows], y), neurons)


@pytest.mark.parametrize("family", FAMILIES)
def test_units_and_shifts_of_the_features_do_not_matter(family, plain):
    X = tables.X * np.array([100.0, 0.01, 1.0, 5.0]) + np.array([0.0, 1.0, -3.0, 20.0])
    same(plain(family), reported(family, X, tables.RESPONSES[family]))


@pytest.mark.parametrize("family", ["Gaussian", "Gamma"])
@pytest.mark.parametrize("unit", [1e-3, 1e5])
def test_the_units_of_the_response_do_not_matter(family, unit, plain):
    other = reported(family, tables.X, unit * tables.RESPONSES[family])
    assert "separation" not in other.checks  # which only counts and labels can have
    # the likelihood has the units of the density of the response
    density = ("pseudo_r2",)
    values = {name: v for name, v in other.numbers.items() if name not in density}
    for name, value in values.items():
        np.testing.assert_allclose(value, plain(family).numbers[name], err_msg=name, **CLOSE)
    for name, check in plain(family).checks.items():
        np.testing.assert_allclose(check.values, other.checks[name].values, err_msg=name, **CLOSE)
    assert other.verdict == plain(family).verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_is_as_many_rows(family):
    times = _rng.permutation(np.resize([0, 0, 1, 1, 3], N))  # N rows again: one shape for all
    weight, y = times * 1.0, tables.RESPONSES[family]
    one = reported(family, tables.X, y, sample_weight=weight)
    same(one, reported(family, np.repeat(tables.X, times, axis=0), np.repeat(y, times, axis=0)))
    # whole weights of features that never come twice are rows that were counted several times, and this is said
    assert one.checks["repeated_rows"].status == "fail"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_may_be_split_and_need_not_be_whole(family):
    weight, part = _rng.uniform(0.2, 2.0, HALF), _rng.uniform(0.1, 0.9, HALF)
    X, y = tables.X[:HALF], tables.RESPONSES[family][:HALF]
    both = np.concatenate([weight * part, weight * (1.0 - part)])
    split = reported(family, np.tile(X, (2, 1)), np.concatenate([y, y]), sample_weight=both)
    same(reported(family, X, y, sample_weight=weight), split)
    assert any("not whole" in text for text in split.not_made)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("time", [None, True])
def test_a_row_without_weight_is_no_row(family, time):
    weight = np.concatenate([np.ones(HALF), np.zeros(N - HALF)])
    y = tables.RESPONSES[family].copy()
    y[HALF:] = 1.0
    one = reported(family, tables.X, y, time=time, sample_weight=weight)
    same(one, reported(family, tables.X[:HALF], y[:HALF], time=time))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_population_is_reported_as_its_neurons(family, plain):
    for k in range(tables.N_NEURONS):
        alone = reported(family, tables.X, tables.RESPONSES[family][:, k])
        for name, check in alone.checks.items():
            value = plain(family).checks[name].values[k]
            np.testing.assert_allclose(value, check.values[0], err_msg=name, **CLOSE)


def test_laws_hold_for_labels():
    def labelled(X, y, **keywords):
        model = nmo.glm.ClassifierPopulationGLM(3, regularizer_strength=1e-3)
        return model.fit(X, y, **keywords).report(X, y, **keywords)

    rows, neurons = _rng.permutation(N), np.array([1, 2, 0])
    one = labelled(tables.X, tables.LABELS)
    same(one, labelled(tables.X[rows], tables.LABELS[rows][:, neurons]), neurons)
    weight = _rng.integers(0, 3, N)
    twice = np.repeat(tables.X, weight, axis=0), np.repeat(tables.LABELS, weight, axis=0)
    same(labelled(tables.X, tables.LABELS, sample_weight=weight * 1.0), labelled(*twice))


def test_aggregated_counts_are_as_healthy_as_the_rows_they_stand_for():
    hits = _rng.binomial(20, 1.0 / (1.0 + np.exp(-tables.ETA[:, 0])))
    y = np.concatenate([np.ones(N), np.zeros(N)])
    weight = np.concatenate([hits, 20.0 - hits])
    assert reported("Bernoulli", np.tile(tables.X, (2, 1)), y, sample_weight=weight).ok


# -- draws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Poisson", "Gaussian"])
def test_a_weight_is_as_many_rows_for_draws(family):
    weight = np.where(np.arange(N) < 100, np.arange(N) % 3, 0.0)
    times, y = weight.astype(int), tables.RESPONSES[family][:, 0]

    def sampled(X, y, **keywords):
        model = nmo.glm.GLM(family, regularizer="Ridge", regularizer_strength=0.01)
        model.sample_posterior(
            X,
            y,
            method="laplace",
            num_samples=500,
            progress_bar=False,
            random_key=jax.random.key(1),
            **keywords,
        )
        return model.report(X, y, **keywords)

    one = sampled(tables.X, y, sample_weight=weight)
    other = sampled(np.repeat(tables.X, times, axis=0), np.repeat(y, times))
    for name in ("dispersion", "linearity", "loo_pit", "predictive", "outliers"):
        if name in one.checks:  # (bins of the calibration jump with what they hold)
            a, b = one.checks[name], other.checks[name]
            # means of some hundred draws: a few hundredths of a posterior standard deviation
            np.testing.assert_allclose(a.value, b.value, atol=0.03, err_msg=name)
            assert a.status == b.status
    # of a sum over 100 rows, each known to a few hundredths of a posterior standard deviation
    np.testing.assert_allclose(one.numbers["elpd_loo"], other.numbers["elpd_loo"], atol=1.0)
    np.testing.assert_allclose(one.numbers["p_loo"], other.numbers["p_loo"], atol=1.0)


# -- order ---------------------------------------------------------------------------------------------

IN_ORDER = {"serial_dependence", "drift", "time_rescaling", "trial_dependence"}


def test_order_is_read_only_where_rows_are_said_to_be_a_time_series():
    y = np.sort(tables.RESPONSES["Bernoulli"][:, 0])  # any sorted response has a rhythm
    model = fitted("Bernoulli", tables.X, y)
    silent = model.report(tables.X, y)
    assert silent.ok, str(silent)
    assert not IN_ORDER & set(silent.checks)
    assert any("time=True" in text for text in silent.not_made)
    assert silent.to_dict()["settings"]["order of rows"] == "not said to be a time series"
    told = model.report(tables.X, y, time=True)
    assert told.checks["drift"].status == "fail"
    assert told.checks["serial_dependence"].status == "fail"
    assert told.to_dict()["settings"]["order of rows"] == "rows in order of time"
    assert any("trials" in text for text in told.not_made)


def test_times_say_the_order_and_where_it_is_interrupted():
    y, rows = tables.RESPONSES["Poisson"], _rng.permutation(N)
    trials = np.arange(N) // 20
    model = fitted("Poisson", tables.X, y)
    shuffled = fitted("Poisson", tables.X[rows], y[rows])
    one = model.report(tables.X, y, trials=trials)
    assert one.to_dict()["settings"]["trials"] == 10
    same(
        one, shuffled.report(tables.X[rows], y[rows], time=np.arange(N)[rows], trials=trials[rows])
    )
    # a gap is the end of a stretch, as that of a trial is, but rows on both of its sides are of one session
    gaps = model.report(tables.X, y, time=np.arange(N) + 100.0 * trials)
    for name in ("serial_dependence", "time_rescaling"):
        if name in one.checks:
            np.testing.assert_allclose(one.checks[name].values, gaps.checks[name].values, **CLOSE)
    assert "trial_dependence" not in gaps.checks


def test_no_check_reads_on_across_the_end_of_a_trial():
    """Trials that are shuffled as wholes have the same dependence within, whatever stands at their ends."""
    y, X = tables.RESPONSES["Bernoulli"], tables.X
    trials, by_trial = np.arange(N) // 20, np.arange(N).reshape(10, 20)
    rows = by_trial[_rng.permutation(10)].ravel()
    one = fitted("Bernoulli", X, y).report(X, y, trials=trials)
    other = fitted("Bernoulli", X[rows], y[rows]).report(X[rows], y[rows], trials=trials[rows])
    same(one, other, but={"drift"})  # over the session, which is another one


def test_a_pynapple_time_index_is_an_order():
    nap = pytest.importorskip("pynapple")
    y, time = tables.RESPONSES["Poisson"], np.arange(N) * 0.1
    epochs = nap.IntervalSet([0.0, 10.0], [9.99, 30.0])
    frame = nap.TsdFrame(t=time, d=y, time_support=epochs)
    model = fitted("Poisson", tables.X, y)
    found = model.report(tables.X, frame)
    same(found, model.report(tables.X, y, trials=(time >= 10.0) * 1))
    assert found.to_dict()["settings"]["order of rows"] == "time index of the data"
    assert not IN_ORDER & set(model.report(tables.X, frame, time=False).checks)


def test_bad_orders_are_refused_before_anything_is_computed(monkeypatch):
    y = tables.RESPONSES["Poisson"][:, 0]
    model = fitted("Poisson", tables.X, y)
    monkeypatch.setattr(_reporting, "evidence", None)
    half = np.arange(N) % 2
    for keywords, kind, words in (
        ({"time": np.arange(3)}, ValueError, "a time for each of 200 rows"),
        ({"time": np.full(N, np.nan)}, ValueError, "finite"),
        ({"time": np.zeros(N)}, ValueError, "same time.*trials"),
        ({"time": "yes"}, TypeError, "True.*array of times"),
        ({"trials": half}, ValueError, "stand together.*Sort the rows"),
        ({"trials": half[:5]}, ValueError, "one label for each of 200 rows"),
        ({"time": False, "trials": half}, ValueError, "order of time"),
    ):
        with pytest.raises(kind, match=words):
            model.report(tables.X, y, **keywords)
    with pytest.raises(ValueError, match="pass X and y"):
        model.report(time=True)


# -- dependence ----------------------------------------------------------------------------------------


def smooth(noise, rho):
    """An autoregressive series of variance one."""
    found = noise.copy()
    for t in range(1, len(noise)):
        found[t] = rho * found[t - 1] + np.sqrt(1.0 - rho**2) * noise[t]
    return found


def test_residuals_that_go_on_from_row_to_row_are_not_ok():
    X = smooth(_rng.normal(size=(1000, 2)), 0.9)
    for level in (
        smooth(_rng.normal(size=1000), 0.9),
        np.linspace(-1, 1, 1000) + _rng.normal(size=1000),
    ):
        y = X @ [0.5, -0.5] + level
        model = fitted("Gaussian", X, y)
        report = model.report(X, y, time=True)
        assert report.checks["serial_dependence"].status == "fail"
        assert "errors" in report.checks["serial_dependence"].message
        assert "HAC" in report.checks["serial_dependence"].remedy
        assert report.verdict != "OK"
    y = X @ [0.5, -0.5] + _rng.normal(size=1000)
    assert fitted("Gaussian", X, y).report(X, y, time=True).ok


@pytest.mark.parametrize("family", FAMILIES)
def test_copied_rows_are_noticed_without_any_order(family):
    X, y = np.tile(tables.X[:40], (5, 1)), np.concatenate([tables.RESPONSES[family][:40, :1]] * 5)
    rows = _rng.permutation(N)
    check = reported(family, X[rows], y[rows]).checks["repeated_rows"]
    assert check.status == "fail"
    np.testing.assert_allclose(check.value, 1.0)  # copies are correlated with one
    assert "cluster" in check.remedy
    # a stimulus that was shown five times, with answers of its own each time, is no copy
    again = np.tile(tables.X[:40], (5, 1))
    eta = again @ tables.COEF[:, :1] + 0.2
    assert reported("Gaussian", again, eta + _rng.normal(size=eta.shape)).ok


def test_trials_that_differ_are_noticed():
    trials = np.arange(N) // 10
    y = tables.RESPONSES["Gaussian"][:, 0]
    assert fitted("Gaussian", tables.X, y).report(tables.X, y, trials=trials).ok
    y = y + 1.5 * _rng.normal(size=20)[trials]
    check = (
        fitted("Gaussian", tables.X, y)
        .report(tables.X, y, trials=trials)
        .checks["trial_dependence"]
    )
    assert check.status == "fail"
    assert "groups=trials" in check.remedy


# -- words ---------------------------------------------------------------------------------------------


def test_a_report_without_data_is_not_ok_about_what_it_did_not_see():
    X, y = tables.X, tables.RESPONSES["Poisson"]
    model = fitted("Poisson", X, y)
    report = model.report()
    assert report.verdict == "NOT CHECKED"
    assert not report.ok
    assert set(report.table["verdict"]) == {"NOT CHECKED"}
    assert "was not looked at" in report.headline
    assert report.to_dict()["verdict"] == "NOT CHECKED"
    assert "NOT CHECKED" in report._repr_html_()
    assert model.report(X, y).verdict == "OK"


def test_wrong_errors_alone_leave_the_means_usable():
    X = tables.X
    y = _rng.poisson(2.0 * tables.RATE[:, 0] * _rng.gamma(1.0, 1.0, N)).astype(float)
    report = fitted("Poisson", X, y).report(X, y)
    assert report.checks["dispersion"].status == "fail"
    assert {name for name, c in report.checks.items() if c.status == "fail"} <= {
        "dispersion",
        "residuals",
    }
    assert report.verdict == "CAUTION"
    assert "Coefficients and predictions are usable; standard errors" in report.headline


def _facts(**changes):
    from bayesglm.diagnostics import Facts

    return Facts(**{
        "model": nmo.observation_models.PoissonObservations(), "link": "exp", "penalised": False, "population": False,
        **changes,
    })  # fmt: skip


def test_remedies_are_for_the_model_at_hand():
    from bayesglm.diagnostics import DEFINITIONS, _check, _remedies

    models = [nmo.observation_models.resolve(name) for name in FAMILIES]
    models.append(nmo.observation_models.CategoricalObservations())
    counts = ("Poisson", "NegativeBinomial")
    for model in models:
        own = type(model).__name__.removesuffix("Observations")
        for penalised in (False, True):
            for spikes in (False, True):
                facts = _facts(model=model, penalised=penalised, spikes=spikes)
                for name in set(DEFINITIONS) - ({"dispersion"} if own not in counts else set()):
                    check = _check.Check(
                        name, "fail", 1.0, np.ones(1), np.ones(1), message="over-dispersed"
                    )
                    text = _remedies.advise(check, facts)
                    assert text.endswith("."), name
                    assert f"se {own}" not in text, (name, own)  # use, Use what is used already
                    assert f"ry {own}" not in text, (name, own)
                    assert not (penalised and "prior='auto'" in text and name != "separation"), name
                    assert spikes or "spike" not in text or name == "time_rescaling", (name, text)
                    if own in ("Gaussian", "Gamma", "Categorical", "Bernoulli"):
                        assert "NegativeBinomial" not in text, (name, text)
    for message, there, not_there in (("over-dispersed", "NegativeBinomial", "history"),
                                      ("under-dispersed", "history", "NegativeBinomial")):  # fmt: skip
        check = _check.Check("dispersion", "fail", 3.0, np.ones(1), np.ones(1), message=message)
        text = _remedies.advise(check, _facts(spikes=True))
        assert there in text
        assert not_there not in text
    assert _remedies.advise(dataclasses.replace(check, status="ok"), _facts()) == ""


def test_the_study_of_power_runs_and_its_cases_are_those_of_the_documentation(capsys):
    from studies import report_power

    found = report_power.main(["--sets", "1", "--only", "order not told"])
    assert found == {"fault": (0, 1)}
    assert "`time=True`" in capsys.readouterr().out
    page = (Path(__file__).resolve().parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
    for case in (*report_power.HEALTHY, *report_power.fault_cases()):
        assert f"| {case.name} | {case.n} |" in page, "run `python -m tests.studies.report_power`"


@pytest.mark.parametrize(("n", "p"), [(40, 60), (6, 1), (60, 20)])
def test_what_cannot_be_known_is_said_and_trips_nothing(n, p):
    X, y = _rng.normal(size=(n, p)), _rng.poisson(1.0, size=n) * 1.0
    model = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=0.1).fit(X, y)
    report = model.report(X, y, time=True, trials=np.arange(n) // 2)
    assert report.ok, str(report)
    unknown = {
        check.definition.title for check in report.checks.values() if check.status == "unknown"
    }
    assert unknown
    assert all(any(title in text for text in report.not_made) for title in unknown)
