"""Leave-one-out scores, streamed over the rows, are those of ArviZ from the log-likelihood of all draws and rows."""

import jax
import numpy as np
import pytest
import tables
import xarray as xr
from arviz_stats import loo as arviz_loo
from arviz_stats import loo_expectations
from arviz_stats import loo_pit as arviz_loo_pit
from arviz_stats.base import array_stats
from scipy import stats

import bayesglm as nmo
from bayesglm import posterior
from bayesglm.posterior import _predict

N_ROWS, CHAINS, DRAWS = 30, 4, 150
X = tables.X[:N_ROWS]
# Sums over a few hundred draws and rows in float64; the fit of a tail divides by small differences.
ATOL = 1e-8
# scipy's distribution of a response, given mean and dispersion
TRUTH = {
    "Poisson": lambda mu, phi: stats.poisson(mu),
    "Gamma": lambda mu, phi: stats.gamma(1.0 / phi, scale=phi * mu),
    "Gaussian": lambda mu, phi: stats.norm(mu, np.sqrt(phi)),
    "Bernoulli": lambda mu, phi: stats.bernoulli(mu),
    "NegativeBinomial": lambda mu, phi: stats.nbinom(1.0 / phi, 1.0 / (1.0 + phi * mu)),
}
DISCRETE = ("Poisson", "Bernoulli", "NegativeBinomial")
COUNTED = pytest.mark.filterwarnings("ignore:Estimated shape parameter")


class Case:
    """Random draws of one neuron, autocorrelated so that they are worth less than their number."""

    def __init__(self, family, rng):
        def chain(*shape):
            noise = rng.normal(size=(CHAINS, DRAWS, *shape))
            for t in range(1, DRAWS):
                noise[:, t] = 0.6 * noise[:, t - 1] + 0.8 * noise[:, t]
            return 0.15 * noise

        link = {"Gaussian": "identity", "Bernoulli": "logistic"}.get(family, "exp")
        self.y = tables.RESPONSES[family][:N_ROWS, 0].copy()
        self.y[3] = self.y[3] if family == "Bernoulli" else self.y.max() + 3.0  # an outlier
        coef, intercept = tables.COEF[:, 0] + chain(4), 0.2 + chain()
        self.scale = np.exp(chain())
        self.data = xr.Dataset({
            "coef": (("chain", "draw", "feature"), coef),
            "intercept": (("chain", "draw"), intercept),
            "scale": (("chain", "draw"), self.scale),
        })  # fmt: skip
        model = nmo.glm.GLM(family, link)
        self.mine = posterior.Draws.of(
            xr.DataTree.from_dict({"posterior": self.data}), self.scale, model.observation_model,
            model.inverse_link_function, False,
        )  # fmt: skip
        eta = np.einsum("if,cdf->cdi", X, coef) + intercept[..., None]
        mean = {"identity": eta, "logistic": 1 / (1 + np.exp(-eta)), "exp": np.exp(eta)}[link]
        self.truth = TRUTH[family](mean, self.scale[..., None])
        self.family, self.reff = family, posterior.relative_efficiency(self.data)

    def pointwise(self, reff, uniform=None):
        with jax.enable_x64(True):
            return posterior.pointwise(self.mine, X, self.y, None, np.ones(N_ROWS), reff, uniform)

    def tree(self, predicted=None):
        """What ArviZ needs, with something in place of predictions."""
        dims = ("chain", "draw", "sample")
        log_p = self.truth.logpmf if self.family in DISCRETE else self.truth.logpdf
        groups = {
            "posterior": self.data,
            "log_likelihood": xr.Dataset({"y": (dims, log_p(self.y))}),
            "observed_data": xr.Dataset({"y": ("sample", self.y)}),
        }
        if predicted is not None:
            groups["posterior_predictive"] = xr.Dataset({"y": (dims, predicted)})
        return xr.DataTree.from_dict(groups)


@COUNTED
@pytest.mark.parametrize("reff", [None, 1.0, 0.3])
@pytest.mark.parametrize("family", TRUTH)
def test_scores_are_those_of_arviz(family, reff, rng):
    case = Case(family, rng)
    assert 0.05 < case.reff < 0.6  # or the default would hardly differ from one
    found = case.pointwise(case.reff if reff is None else reff)
    mine = posterior.elpd_data(found, CHAINS * DRAWS, N_ROWS)
    theirs = arviz_loo(case.tree(), pointwise=True, reff=reff)
    for name in ("elpd", "se", "p", "good_k"):
        np.testing.assert_allclose(mine[name], theirs[name], rtol=0, atol=ATOL)
    assert (mine.n_samples, mine.n_data_points) == (theirs.n_samples, theirs.n_data_points)
    assert mine.warning == theirs.warning
    np.testing.assert_allclose(mine.elpd_i.values, theirs.elpd_i.values, rtol=0, atol=ATOL)
    np.testing.assert_allclose(mine.pareto_k.values, theirs.pareto_k.values, rtol=0, atol=ATOL)


@COUNTED
@pytest.mark.parametrize("family", TRUTH)
def test_integral_transforms_are_the_expectations_of_arviz(family, rng):
    case, uniform = Case(family, rng), rng.uniform(size=N_ROWS)
    below = case.truth.cdf(case.y)
    if family in DISCRETE:
        below = below - (1.0 - uniform) * case.truth.pmf(case.y)
    with np.errstate(
        all="ignore"
    ):  # ArviZ looks at the tail of what is expected, too: of zeros, here and there
        expected, _ = loo_expectations(case.tree(below), var_name="y", kind="mean")
    found = case.pointwise(case.reff, uniform).pit
    np.testing.assert_allclose(found, expected.values, rtol=0, atol=ATOL)


@COUNTED
@pytest.mark.parametrize("family", ["Gaussian", "Poisson"])
def test_integral_transforms_are_what_simulated_responses_estimate(family, rng):
    case = Case(family, rng)
    predicted = case.truth.rvs(random_state=rng)
    # ArviZ breaks ties of counts by random numbers of its own; at one half, the mean of these is left
    theirs = np.mean(
        [arviz_loo_pit(case.tree(predicted), random_state=k)["y"].values for k in range(50)], axis=0
    )
    found = case.pointwise(case.reff, np.full(N_ROWS, 0.5)).pit
    # one simulated response for each of 600 draws: a standard error of at most 0.02, and 0.01 from the ties
    np.testing.assert_allclose(found, theirs, atol=0.12)
    assert np.abs(found - theirs).mean() < 0.03


@pytest.mark.parametrize("n_chains", [1, 2, 4])
@pytest.mark.parametrize("n_draws", [4, 5, 9, 50, 333])
def test_convergence_statistics_are_those_of_arviz(n_chains, n_draws, rng):
    draws = rng.normal(size=(n_chains, n_draws, 40))
    share = rng.uniform(-0.95, 0.99, size=40)
    for t in range(1, n_draws):
        draws[:, t] += share * draws[:, t - 1]
    draws[0, :, 0] += 5.0  # a chain that disagrees
    draws[:, 1::2, 1] = draws[:, : n_draws // 2 * 2 : 2, 1]  # draws that stay, and so have ties
    draws[:, :, 2] = draws[:, :, 2].round()
    found = posterior.convergence(draws)
    with np.errstate(all="ignore"):  # ArviZ divides by zero where a parameter is constant
        theirs = _arviz(draws)
    if n_chains == 1:
        assert np.isnan(found.r_hat).all()
    known = np.ptp(draws, axis=(0, 1)) > 0
    for name, values in theirs.items():
        mine = getattr(found, name)[known]
        np.testing.assert_allclose(mine, values[known], rtol=1e-8, err_msg=name)


def _arviz(draws):
    axes = {"chain_axis": 0, "draw_axis": 1}
    theirs = {
        "ess_bulk": array_stats.ess(draws, method="bulk", **axes),
        "ess_tail": array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **axes),
        "mcse": array_stats.mcse(draws, method="mean", **axes),
    }
    if len(draws) > 1:
        theirs["r_hat"] = array_stats.rhat(draws, **axes)
    return theirs


def test_draws_that_are_constant_or_not_finite_have_no_statistics(rng):
    draws = rng.normal(size=(2, 50, 3))
    draws[:, :, 0], draws[0, 3, 1] = 1.5, np.inf
    found = np.array(posterior.convergence(draws))
    assert np.isnan(found[:, :2]).all()
    assert np.isfinite(found[:, 2]).all()


def test_efficiencies_belong_to_neurons_and_are_one_for_a_single_chain(rng):
    cases = [Case("Gaussian", rng) for _ in range(2)]
    both = xr.concat([case.data for case in cases], "neuron")
    apart = [case.reff for case in cases]
    np.testing.assert_allclose(posterior.relative_efficiency(both), apart, rtol=1e-12)
    np.testing.assert_array_equal(posterior.relative_efficiency(both.isel(chain=[0])), [1.0, 1.0])


@COUNTED
def test_each_neuron_of_a_population_is_scored_as_if_it_were_alone(rng, monkeypatch):
    cases = [Case("Gaussian", rng) for _ in range(3)]
    stacked = [np.stack([getattr(c.mine, name) for c in cases], axis=-1)
               for name in ("coef", "intercept", "scale")]  # fmt: skip
    together = posterior.Draws(*stacked, *cases[0].mine[3:])
    y, uniform = np.stack([c.y for c in cases], axis=1), rng.uniform(size=(N_ROWS, 3))
    reff = np.array([1.0, 0.2, 0.5])
    monkeypatch.setattr(_predict, "_CHUNK_BYTES", 8 * 3 * CHAINS * DRAWS * 7)  # seven rows
    with jax.enable_x64(True):
        found = posterior.pointwise(together, X, y, None, np.ones(y.shape), reff, uniform)
    for k, case in enumerate(cases):
        alone = case.pointwise(reff[k], uniform[:, k])
        for mine, theirs in zip(found, alone, strict=True):
            np.testing.assert_allclose(mine[:, k], theirs, rtol=0, atol=ATOL)
