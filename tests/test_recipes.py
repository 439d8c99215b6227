"""The recipes of docs/contributing.md: what they name is all that a new member needs."""

import jax.numpy as jnp
import numpy as np
import own_solvers
import pytest
import tables
from jax.scipy.special import gammaln
from numpyro.distributions import constraints
from scipy import special

import bayesglm as nmo
from bayesglm import links
from bayesglm.diagnostics import _definitions, _fit, _remedies
from bayesglm.diagnostics._check import grade
from bayesglm.distributions import PredictorDistribution
from bayesglm.solvers import Newton

X, Y = tables.X, tables.RESPONSES["NegativeBinomial"]
QUIET = {"num_samples": 100, "num_chains": 2, "progress_bar": False, "random_key": 1}
RIDGE = {"regularizer": "Ridge", "regularizer_strength": 0.05}


class GeometricPredictor(PredictorDistribution):
    """Counts of failures before a success: a negative binomial with a dispersion of one."""

    support = constraints.nonnegative_integer

    def loss(self, value):
        log_mean = self.log_mean()
        return (value + 1.0) * jnp.logaddexp(log_mean, 0.0) - value * log_mean

    def log_base(self, value):
        return gammaln(value + 1.0) - gammaln(value + 1.0)

    def sample(self, key, sample_shape=()):
        raise NotImplementedError

    @staticmethod
    def variance_of(mean, scale):
        return mean + mean**2

    @staticmethod
    def excess_kurtosis_of(mean, scale):
        return 6.0 + 1.0 / (mean + mean**2)

    @staticmethod
    def cdf_of(value, mean, scale):
        return special.betainc(1.0, np.floor(value) + 1.0, 1.0 / (1.0 + mean))

    @staticmethod
    def draw_of(rng, mean, scale):
        return rng.negative_binomial(1.0, 1.0 / (1.0 + mean))


class GeometricObservations(nmo.observation_models.Observations):
    """The family of it."""

    default_inverse_link_function = staticmethod(links.exp)
    distribution = staticmethod(GeometricPredictor)


@pytest.fixture(scope="module")
def twins():
    """One model under the new family, and under the one that it is a case of."""
    families = GeometricObservations(), nmo.observation_models.NegativeBinomialObservations(1.0)
    return [
        nmo.glm.PopulationGLM(family, **RIDGE).sample_posterior(X, Y, scale="plugin", **QUIET)
        for family in families
    ]


def test_a_family_is_a_distribution_and_a_class(twins):
    """Fits, errors, scores, draws, predictions and the report are those of the family that it is a case of."""
    new, known = twins
    # both densities are sums of the same terms, grouped otherwise; fits stop at 1e-6 of a standard error of 0.1
    np.testing.assert_allclose(new.coef_, known.coef_, atol=1e-6)
    np.testing.assert_allclose(new.score(X, Y), known.score(X, Y), rtol=1e-6)
    for kind in (False, "HC3"):
        errors = [model.summary(X, Y, robust=kind)["std_error"] for model in twins]
        np.testing.assert_allclose(*errors, rtol=1e-6)
    # the same chains, whose accepted states rounding does not change in a hundred draws of three dimensions or so
    for name in ("coef", "intercept"):
        draws = [model.posterior_["posterior"][name].values for model in twins]
        np.testing.assert_allclose(*draws, atol=1e-5)
    ends = [np.asarray(model.predict_interval(X, kind="response")) for model in twins]
    np.testing.assert_array_equal(*ends)
    reports = [model.report(X, Y) for model in twins]
    assert {k: c.status for k, c in reports[0].checks.items()} == {
        k: c.status for k, c in reports[1].checks.items()
    }
    assert "dispersion" in reports[0].checks  # which is for counts


def test_a_solver_is_a_class():
    """It joins the registry; which penalties it takes, and how far it came, it says itself."""

    class Damped(Newton):
        """Newton's method with half steps."""

        def __init__(self, tol=1e-6, maxiter=500):
            super().__init__(tol, maxiter, stepsize=0.5)

    with own_solvers.registry_kept():
        nmo.solvers.register("Damped", Damped, validate=False)
        nmo.regularizer.Ridge.allow_solver("Damped")
        damped = nmo.glm.GLM(solver_name="Damped", **RIDGE).fit(X, Y[:, 0])
    newton = nmo.glm.GLM(solver_name="Newton", **RIDGE).fit(X, Y[:, 0])
    np.testing.assert_allclose(damped.coef_, newton.coef_, atol=1e-6)
    # half of what is left with each step: a millionth after twenty
    assert damped.solver_state_.iter_num > newton.solver_state_.iter_num + 10
    assert damped.solver_state_.converged.all()


def test_a_check_is_a_definition_a_number_and_a_remedy(monkeypatch, twins):
    definition = _definitions.Definition(
        "silence", "Silent neurons", "share of zeros", 0.1, None, "A neuron is silent.", "a test"
    )
    checks = _fit.checks

    def more(evidence):
        yield from checks(evidence)
        share = (evidence.responses.y == 0).mean(axis=0)
        yield grade("silence", share, evidence.labels)

    monkeypatch.setitem(_definitions.DEFINITIONS, "silence", definition)
    monkeypatch.setitem(_remedies._REMEDIES, "silence", lambda facts, check: "Wake it up.")
    monkeypatch.setattr(_fit, "checks", more)
    model = nmo.glm.PopulationGLM(twins[1].observation_model, **RIDGE).fit(X, Y)
    report = model.report(X, Y)
    check = report.checks["silence"]
    assert (check.status, check.remedy) == ("caution", "Wake it up.")
    assert report.verdict == "CAUTION"
    for text in (str(report), report._repr_html_(), str(report.to_dict())):
        assert "Silent neurons" in text or "silence" in text
