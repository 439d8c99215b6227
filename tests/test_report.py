"""The report: failures that were made on purpose trip their check and only what follows, healthy models trip none."""

import copy
import json
import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
import report_table
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import bayesglm as nmo
from bayesglm import _residuals, diagnostics
from bayesglm.diagnostics import DEFINITIONS
from bayesglm.posterior import families

RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.005}
QUIET = {"num_samples": 150, "progress_bar": False}
N, N_NEURONS = 400, 3
_rng = np.random.default_rng(11)
X = _rng.normal(size=(N, 3))
COEF = np.array([[0.4, -0.2, 0.0], [-0.3, 0.1, 0.2], [0.0, 0.3, -0.2]])
RATE = np.exp(X @ COEF - 0.3)
COUNTS = _rng.poisson(RATE).astype(float)
TREE = {"speed": X[:, :2], "place": X[:, 2:]}


@pytest.fixture(scope="session")
def sampled():
    return nmo.glm.GLM(**RIDGE).sample_posterior(TREE, COUNTS[:, 0], **QUIET)


@pytest.fixture(scope="session")
def population():
    return nmo.glm.PopulationGLM(**RIDGE).sample_posterior(X, COUNTS, **QUIET)


def tripped(report):
    return {name for name, check in report.checks.items() if check.status in ("caution", "fail")}


# -- healthy models ----------------------------------------------------------------------------------

MANY = 60
FAMILIES = {
    "Poisson": (None, lambda rng, mean: rng.poisson(mean)),
    "Bernoulli": (None, lambda rng, mean: rng.binomial(1, mean)),
    "Gaussian": (None, lambda rng, mean: mean + 0.5 * rng.normal(size=mean.shape)),
    "Gamma": ("exp", lambda rng, mean: rng.gamma(2.0, mean / 2.0)),
    "NegativeBinomial": (
        None,
        lambda rng, mean: rng.poisson(mean * rng.gamma(1.0, 1.0, mean.shape)),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_check_trips_for_many_healthy_neurons(name, rng):
    link, draw = FAMILIES[name]
    model = nmo.glm.PopulationGLM(name, link)
    eta = X @ rng.normal(size=(3, MANY)) * 0.4 - 0.2
    with jax.enable_x64(True):
        mean = np.asarray(model.inverse_link_function(eta))
    y = draw(rng, mean).astype(float)
    report = model.fit(X, y).report(X, y)
    assert report.ok, str(report)
    assert len(report.table) == MANY
    # by chance alone: less than one in a hundred reports has a check that trips
    assert diagnostics.PROBABILITY * len(report.checks) < 0.01


def test_healthy_labels_trip_no_check(rng):
    labels = np.argmax(X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(N, 3)), axis=1)
    report = nmo.glm.ClassifierGLM(3, regularizer_strength=1e-3).fit(X, labels).report(X, labels)
    assert report.ok, str(report)
    assert {"convergence", "calibration", "conditioning"} <= set(report.checks)


@pytest.mark.parametrize("data", [False, True])
def test_healthy_draws_trip_no_check(sampled, population, data):
    one = sampled.report(TREE, COUNTS[:, 0]) if data else sampled.report()
    many = population.report(X, COUNTS) if data else population.report()
    # with 150 draws a chain a quantile has few effective ones: that is true, and said
    assert tripped(one) <= {"ess_tail"}
    assert tripped(many) <= {"ess_tail"}
    stages = {"fit", "draws"} | ({"data", "draws and data"} if data else set())
    made = {name for name in DEFINITIONS if DEFINITIONS[name].stage in stages}
    others = {
        "laplace",
        "time_rescaling",
        "residuals",
        "spread",
        "repeated_rows",
    }  # of another method, of spikes, without draws, of families with a dispersion, of rows that are alike
    assert made - others <= set(one.checks) | ({"dispersion"} if not data else set())


# -- draws that are broken on purpose ------------------------------------------------------------------


def broken(estimator, change):
    """A copy of an estimator whose draws were changed."""
    return with_draws(estimator, changed(estimator.posterior_.copy(deep=True), change))


def changed(tree, change):
    change(tree)
    for group in tree.children.values():
        group.attrs.pop("checksum", None)
    return tree


def with_draws(estimator, tree):
    """A copy of an estimator with other draws."""
    other = copy.copy(estimator)
    other.posterior_ = tree
    return other


def diverge(share):
    def change(tree):
        flags = tree["sample_stats"]["diverging"].values
        flags[...] = False
        flags.reshape(-1)[: max(1, int(share * flags.size))] = True

    return change


def stick(tree):
    for values in tree["posterior"].dataset.data_vars.values():
        values.values[2] = values.values[2, :1]


def split_modes(tree):
    coef = tree["posterior"]["coef"].values
    coef[:2] += 20.0 * coef.std()


def slow_energy(tree):
    energy = tree["sample_stats"]["energy"].values
    energy[...] = np.random.default_rng(0).normal(size=energy.shape).cumsum(axis=1)


def saturate(tree):
    tree["sample_stats"]["reached_max_treedepth"].values[:, ::2] = True


def correlate(tree):
    rng = np.random.default_rng(0)
    coef = tree["posterior"]["coef"].values
    noise = rng.normal(size=coef.shape)
    for t in range(1, coef.shape[1]):
        noise[:, t] = 0.95 * noise[:, t - 1] + np.sqrt(1 - 0.95**2) * noise[:, t]
    coef[...] = coef.mean(axis=(0, 1)) + coef.std(axis=(0, 1)) * noise


def spoil(tree):
    tree["posterior"]["coef"].values[1, 5, 0] = np.nan


CHAINS = {"r_hat", "ess_bulk", "ess_tail", "mcse"}
#: What is broken, the checks that must trip, those that may, and the verdict.
BROKEN = {
    "one divergence": (diverge(0.0), {"divergences"}, set(), "CAUTION"),
    "divergences": (diverge(0.05), {"divergences"}, set(), "DO NOT USE"),
    "stuck chain": (stick, {"r_hat", "ess_bulk"}, CHAINS, "DO NOT USE"),
    "two modes": (split_modes, {"r_hat", "ess_bulk", "mcse"}, CHAINS, "DO NOT USE"),
    "low E-BFMI": (slow_energy, {"energy"}, set(), "DO NOT USE"),
    "saturated trees": (saturate, {"tree_depth"}, set(), "DO NOT USE"),
    "few effective draws": (correlate, {"ess_bulk", "mcse"}, CHAINS, "DO NOT USE"),
    "draws that are not numbers": (spoil, CHAINS, CHAINS, "DO NOT USE"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_draws_trip_their_check_and_what_follows(case, sampled):
    change, must, may, verdict = BROKEN[case]
    report = broken(sampled, change).report()
    before = tripped(sampled.report())
    assert must <= tripped(report)
    assert tripped(report) - before <= must | may
    assert report.verdict == verdict
    assert not report.ok
    assert all(report.checks[name].remedy for name in must)
    assert report.verdict in str(report)


@pytest.mark.parametrize("change", [stick, split_modes, spoil])
def test_broken_draws_do_not_keep_a_report_from_looking_at_data(change, sampled, tmp_path):
    report = broken(sampled, change).report(TREE, COUNTS[:, 0])
    assert report.verdict == "DO NOT USE"
    assert {"r_hat", "ess_bulk"} <= tripped(report)
    report.save(tmp_path / "report.html")
    report.save(tmp_path / "report.json")


def test_a_broken_neuron_is_named_and_comes_first(population):
    def change(tree):
        tree["posterior"]["coef"].values[:2, :, :, 1] += 5.0

    report = broken(population, change).report()
    check = report.checks["r_hat"]
    assert check.neurons == (1,)
    assert "coef[" in check.message
    assert report.table.index[0] == 1
    assert report.table["verdict"].iloc[0] == "DO NOT USE"
    assert (report.table["verdict"].iloc[1:] != "DO NOT USE").all()
    assert "1 DO NOT USE" in report.headline


def test_a_single_chain_says_that_chains_cannot_be_compared(sampled):
    tree = xr.DataTree.from_dict(
        {
            name: group.dataset.isel(chain=[0]) if "chain" in group.dims else group.dataset
            for name, group in sampled.posterior_.children.items()
        }
    )
    report = with_draws(sampled, changed(tree, lambda tree: None)).report()
    assert report.checks["r_hat"].status == "unknown"
    assert "two chains" in report.checks["r_hat"].message


def test_a_normal_approximation_is_judged_by_its_k():
    good = nmo.glm.GLM(**RIDGE).sample_posterior(TREE, COUNTS[:, 0], method="laplace", **QUIET)
    assert good.report().checks["laplace"].status == "ok"
    assert not {"divergences", "tree_depth", "energy"} & set(good.report().checks)
    bad = broken(good, lambda tree: tree["sample_stats"]["khat"].values.fill(1.2))
    assert tripped(bad.report()) - tripped(good.report()) == {"laplace"}
    assert "nuts" in bad.report().checks["laplace"].remedy


# -- data that do not go with the model ----------------------------------------------------------------


def test_separated_data_trip_separation(rng):
    y = (X[:, 0] > 0) * 1.0
    model = nmo.glm.GLM("Bernoulli")
    with pytest.warns(RuntimeWarning, match="separation"):
        model.fit(X, y)
    for report in (model.report(), model.report(X, y)):
        # near the optimum at infinity, curvature is lost altogether
        assert {"separation"} <= tripped(report) <= {"separation", "conditioning", "convergence"}
        assert report.verdict == "DO NOT USE"


def test_a_silent_neuron_trips_its_own_row_only():
    y = np.where(np.arange(N_NEURONS) == 1, 0.0, COUNTS)
    model = nmo.glm.PopulationGLM(**RIDGE)
    with pytest.warns(RuntimeWarning, match="silent"):
        model.fit(X, y)
    report = model.report(X, y)
    assert tripped(report) == {"estimable"}
    assert report.checks["estimable"].neurons == (1,)
    assert report.table["verdict"].tolist() == ["DO NOT USE", "OK", "OK"]


def test_overdispersed_counts_trip_dispersion_and_residuals_and_name_the_way_out(rng):
    y = rng.poisson(4.0 * RATE[:, 0] * rng.gamma(0.7, 1 / 0.7, size=N)).astype(float)
    report = nmo.glm.GLM().fit(X, y).report(X, y)
    assert {"dispersion"} <= tripped(report) <= {"dispersion", "residuals", "outliers"}
    assert "NegativeBinomial" in report.checks["dispersion"].remedy
    assert "over" in report.checks["dispersion"].message
    way_out = nmo.observation_models.NegativeBinomialObservations(scale=1 / 0.7)
    assert nmo.glm.GLM(way_out).fit(X, y).report(X, y).ok


def test_underdispersed_counts_are_a_caution(rng):
    y = np.round(8.0 * RATE[:, 0])
    report = nmo.glm.GLM().fit(X, y).report(X, y)
    assert report.checks["dispersion"].status == "caution"
    assert "under" in report.checks["dispersion"].message


def test_a_wrong_link_trips_calibration(rng):
    features = rng.uniform(-1, 1, size=(3000, 1))
    y = rng.poisson(np.log1p(np.exp(6.0 * features[:, 0]))).astype(float)
    wrong = nmo.glm.GLM(inverse_link_function="exp").fit(features, y).report(features, y)
    assert "calibration" in tripped(wrong)
    assert "link" in tripped(wrong)
    assert tripped(wrong) <= {
        "calibration",
        "dispersion",
        "residuals",
        "linearity",
        "link",
        "outliers",
    }
    right = nmo.glm.GLM(inverse_link_function="softplus").fit(features, y).report(features, y)
    assert right.ok, str(right)


def test_collinear_features_are_named(rng):
    features = {"a": X[:, :1], "b": X[:, 1:2], "c": X[:, :1] + 0.005 * rng.normal(size=(N, 1))}
    report = nmo.glm.GLM().fit(features, COUNTS[:, 0]).report(features, COUNTS[:, 0])
    assert tripped(report) == {"conditioning"}
    message = report.checks["conditioning"].message
    assert "a[0]" in message
    assert "c[0]" in message
    assert "b[0]" not in message
    # a penalty settles how much of the weight each gets
    settled = nmo.glm.GLM(**RIDGE).fit(features, COUNTS[:, 0]).report(features, COUNTS[:, 0])
    assert "conditioning" not in tripped(settled)


def test_a_solver_that_stopped_early_trips_convergence():
    model = nmo.glm.GLM("Gamma", "exp", solver_kwargs={"maxiter": 1})
    y = 100.0 * RATE[:, 0] ** 3
    with pytest.warns(RuntimeWarning, match="converge"):
        model.fit(X, y)
    assert "convergence" in tripped(model.report())


def test_bursts_trip_time_rescaling(rng):
    n = 20_000
    features = rng.normal(size=(n, 1))
    rate = np.exp(0.3 * features[:, 0] - 3.0)
    poisson = rng.poisson(rate).astype(float)
    bursting = poisson.copy()
    bursting[1:] = np.maximum(bursting[1:], (poisson[:-1] > 0) * (rng.random(n - 1) < 0.5))
    for y, trips in ((poisson, set()), (bursting, {"time_rescaling", "serial_dependence"})):
        y = np.minimum(y, 1)
        model = nmo.glm.GLM("Bernoulli").fit(features, y)
        assert tripped(model.report(features, y, time=True)) == trips
        assert model.report(features, y).ok  # what is not said to be in order is not read in order


def test_a_prior_against_the_data_trips_its_sensitivity(rng):
    y = rng.poisson(np.exp(1.5 * X[:, 0])).astype(float)
    strong = nmo.glm.GLM(regularizer="Ridge", regularizer_strength=1.0)
    report = strong.sample_posterior(X, y, **QUIET).report(X, y)
    assert "prior_sensitivity" in tripped(report)
    assert "coef[0]" in report.checks["prior_sensitivity"].message
    assert report.numbers["prior_share"][0] > 0.05
    np.testing.assert_allclose(report.numbers["prior_sd_max"], 1 / np.sqrt(N), rtol=1e-6)


def test_overdispersed_counts_trip_what_is_predicted_from_draws(rng):
    y = rng.poisson(6.0 * rng.gamma(0.3, 1 / 0.3, size=N)).astype(float)
    report = nmo.glm.GLM(**RIDGE).sample_posterior(X, y, **QUIET).report(X, y)
    assert {"dispersion", "loo_pit", "predictive"} <= tripped(report)
    assert report.checks["dispersion"].status == "fail"
    assert report.verdict == "CAUTION"
    assert "standard errors, intervals" in report.headline


def test_a_response_that_moves_the_posterior_trips_influence(rng):
    features = np.append(rng.normal(size=60), 6.0)[:, None]
    y = rng.poisson(np.exp(0.3 * features[:, 0])).astype(float)
    y[-1] = 40.0
    report = nmo.glm.GLM(**RIDGE).sample_posterior(features, y, **QUIET).report(features, y)
    assert "pareto_k" in tripped(report)
    assert "1 of 61" in report.checks["pareto_k"].message
    assert report.checks["pareto_k"].status == "caution"  # of the score, not of the draws


# -- residuals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_residuals_and_intervals_of_the_truth_are_uniform(name, rng):
    link, draw = FAMILIES[name]
    model = nmo.observation_models.resolve(name)
    mean = np.full(20_000, 0.15)
    y = draw(rng, mean).astype(float)
    scale = {"Gaussian": 0.25, "Gamma": 0.5}.get(name, 1.0)
    one = np.ones(len(y))
    # limits of chance: one draw in ten thousand would be called different
    assert _residuals.from_uniform(_residuals.transforms(model, y, mean, scale, one)).p_value > 1e-4
    if name in ("Poisson", "Bernoulli", "NegativeBinomial"):
        # short stretches cut long intervals off: what is seen is compared with what could have been seen
        for every in (len(y), 100, 7):
            used, stretch = np.arange(len(y)) % 101 != 0, np.arange(len(y)) // every
            found = _residuals.rescaled_intervals(model, y, mean, scale, used, stretch)
            assert _residuals.from_uniform(found).p_value > 1e-4


def test_replicates_are_draws_of_the_family(rng):
    mean = np.full(20_000, 1.3)
    for name in FAMILIES:
        if name == "Bernoulli":
            mean = np.full(20_000, 0.3)
        model = nmo.observation_models.resolve(name)
        y = families.draw(model, rng, mean, 0.6)
        found = _residuals.transforms(model, y, mean, 0.6, np.ones(len(y)))
        assert _residuals.from_uniform(found).p_value > 1e-4


# -- what a user sees ----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Counts what must and must not be in a page that needs nothing else."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))


@pytest.fixture(scope="session")
def html(population, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    population.report(X, COUNTS).save(path)
    return path.read_text(encoding="utf-8")


def test_the_page_stands_alone(html):
    page = Page(html)
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert not [a for _, a in page.attributes if str(a.get("src", a.get("href", "#")))[0] != "#"]
    inlined = re.findall(r"url\(([^)]*)\)|xlink:href=\"([^\"]*)\"", html)
    assert all((a or b).strip("\"'").startswith(("#", "data:")) for a, b in inlined)
    assert len(html) < 2e6
    assert page.attributes[0] == ("html", {"lang": "en"})
    assert (
        "meta",
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    ) in page.attributes


def test_each_picture_is_described_and_follows_the_page_colours(html):
    figures = [a for tag, a in Page(html).attributes if tag == "figure"]
    assert len(figures) > 5
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in figures)
    assert html.count("<svg") == len(figures)
    assert "currentColor" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_the_page_tells_the_verdict_and_every_check(html, population):
    report = population.report(X, COUNTS)
    assert html.index(report.verdict) < html.index("<table")
    for check in report.checks.values():
        assert check.definition.title in html
    assert report._repr_html_().startswith("<main")


def test_the_json_form_has_its_schema_and_all_numbers(sampled, population, tmp_path):
    for report in (
        sampled.report(TREE, COUNTS[:, 0]),
        population.report(X, COUNTS),
        population.report(),
    ):
        report.save(tmp_path / "report.json")
        found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert set(found) == {"schema_version", "verdict", "ok", "headline", "checks", "not_made", "settings",
                              "neurons", "parameters"}  # fmt: skip
        assert found == json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert found["verdict"] == report.verdict
        for name, check in report.checks.items():
            assert found["checks"][name]["status"] == check.status
            assert set(found["checks"][name]) == {"name", "title", "status", "value", "limits", "neurons", "message",
                                                  "remedy", "measure", "source"}  # fmt: skip
        assert len(found["neurons"]) == len(report.table)
        assert len(found["parameters"]) == len(report._evidence.estimates)
        assert found["settings"]["versions"]["jax"] == jax.__version__


def test_the_text_has_the_verdict_first_and_remedies(sampled):
    text = str(broken(sampled, diverge(0.5)).report())
    assert text.startswith("DO NOT USE")
    assert "What to do:" in text
    assert max(map(len, text.splitlines()[:8])) <= 100
    assert "DO NOT USE" in repr(broken(sampled, diverge(0.5)).report())


# -- errors --------------------------------------------------------------------------------------------


def test_bad_calls_are_refused_and_change_nothing(sampled, population):
    with pytest.raises(NotFittedError):
        nmo.glm.GLM().report(X, COUNTS[:, 0])
    before = dict(sampled.__dict__)
    with pytest.raises(ValueError, match="both X and y"):
        sampled.report(TREE)
    with pytest.raises(ValueError, match="both X and y"):
        sampled.report(y=COUNTS[:, 0])
    with pytest.raises(ValueError, match="not the data that were sampled"):
        sampled.report(TREE, COUNTS[:, 1])
    with pytest.raises(TypeError, match="structure"):
        sampled.report(X, COUNTS[:, 0])
    with pytest.raises(ValueError, match=r"\.html.*\.json"):
        sampled.report().save("report.pdf")
    assert sampled.__dict__ == before


def test_draws_in_a_file_can_be_given_back_and_those_of_another_model_are_refused(
    sampled, tmp_path
):
    path = tmp_path / "draws.nc"
    sampled.posterior_.to_netcdf(path)
    assert all("checksum" in group.attrs for group in sampled.posterior_.children.values())
    same = clone(sampled).fit(TREE, COUNTS[:, 0])
    same.posterior_ = path
    assert tripped(same.report(TREE, COUNTS[:, 0])) == tripped(sampled.report(TREE, COUNTS[:, 0]))
    others = {
        "feature": nmo.glm.GLM(**RIDGE).fit({"speed": X[:, :2], "head": X[:, 2:]}, COUNTS[:, 0]),
        "coef": nmo.glm.GLM(**RIDGE).fit(X[:, :2], COUNTS[:, 0]),
        "observation model": nmo.glm.GLM("NegativeBinomial", **RIDGE).fit(TREE, COUNTS[:, 0]),
        "regularizer strength": nmo.glm.GLM(regularizer="Ridge", regularizer_strength=0.1).fit(
            TREE, COUNTS[:, 0]
        ),
    }
    for what, other in others.items():
        with pytest.raises(ValueError, match=f"another model.*{what}"):
            other.posterior_ = path
        assert other.posterior_ is None
    with pytest.raises(NotFittedError):
        nmo.glm.GLM().posterior_ = path
    with pytest.raises(TypeError, match="DataTree"):
        same.posterior_ = 3
    with pytest.raises(ValueError, match="group 'sample_stats'"):
        same.posterior_ = xr.DataTree.from_dict(
            {"posterior": sampled.posterior_["posterior"].dataset}
        )


def test_every_definition_has_limits_and_a_source():
    for name, definition in DEFINITIONS.items():
        assert definition.name == name
        assert definition.source
        assert definition.caution is not None
        if definition.fail is not None:
            worse = (
                definition.fail < definition.caution
                if definition.smaller_is_worse
                else (definition.fail >= definition.caution)
            )
            assert worse


def test_the_documentation_has_the_definitions_and_the_schema(sampled):
    text = report_table.PAGE.read_text(encoding="utf-8")
    assert report_table.updated(text) == text, "run `python -m tests.report_table`"
    found = sampled.report().to_dict()
    for key in (*found, *next(iter(found["checks"].values()))):
        assert f"`{key}`" in text, key
