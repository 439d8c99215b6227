"""The report: draws that were broken on purpose trip their check, and what a user sees of it."""

import json
import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
import report_table
import xarray as xr
from problems import with_draws
from reported import COUNTS, QUIET, RIDGE, X, tripped
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import bayesglm as nmo
from bayesglm.diagnostics import DEFINITIONS

TREE = {"speed": X[:, :2], "place": X[:, 2:]}


@pytest.fixture(scope="session")
def sampled():
    return nmo.glm.GLM(**RIDGE).sample_posterior(TREE, COUNTS[:, 0], **QUIET)


@pytest.fixture(scope="session")
def population():
    return nmo.glm.PopulationGLM(**RIDGE).sample_posterior(X, COUNTS, **QUIET)


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
    tree = estimator.posterior_.copy(deep=True)
    change(tree)
    return with_draws(estimator, tree)


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
    report = with_draws(sampled, tree).report()
    assert report.checks["r_hat"].status == "unknown"
    assert "two chains" in report.checks["r_hat"].message


def test_a_normal_approximation_is_judged_by_its_k():
    good = nmo.glm.GLM(**RIDGE).sample_posterior(TREE, COUNTS[:, 0], method="laplace", **QUIET)
    assert good.report().checks["laplace"].status == "ok"
    assert not {"divergences", "tree_depth", "energy"} & set(good.report().checks)
    bad = broken(good, lambda tree: tree["sample_stats"]["khat"].values.fill(1.2))
    assert tripped(bad.report()) - tripped(good.report()) == {"laplace"}
    assert "nuts" in bad.report().checks["laplace"].remedy


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
