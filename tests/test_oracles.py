"""Estimates equal those of scikit-learn and statsmodels.

Both sides stop somewhere: ours at 1e-6 standard errors (1e-7 in units of the coefficients here), the others where their
tightened tolerances say. Where a tolerance is wider than 1e-6 the reason stands beside it.
"""

import numpy as np
import pytest
import statsmodels.api as sm
import tables
from reference import fitted
from sklearn import linear_model

import bayesglm as nmo

pytestmark = [
    pytest.mark.oracle,
    # 1 / x can leave the support of Gamma; on bounded features it does not.
    pytest.mark.filterwarnings("ignore:The InversePower link function does not respect the domain"),
]

X, N, NEURONS = tables.X, tables.N_SAMPLES, range(tables.N_NEURONS)
DESIGN = sm.add_constant(X)
ATOL = 1e-6


def population(family, link=None, kind="UnRegularized", strength=None, **fit):
    model = nmo.glm.PopulationGLM(family, link, kind, strength)
    return model.fit(X, tables.RESPONSES[family], **fit)


def assert_columns_equal(model, oracle, family, atol=ATOL):
    """Every neuron has the (coef, intercept) that the oracle finds for its response."""
    coef, intercept = fitted(model)
    for k in NEURONS:
        other_coef, other_intercept = oracle(tables.RESPONSES[family][:, k])
        np.testing.assert_allclose(coef[:, k], other_coef, rtol=0, atol=atol)
        np.testing.assert_allclose(intercept[k], other_intercept, rtol=0, atol=atol)


def sklearn(estimator):
    def oracle(y):
        estimator.fit(X, y)
        return np.ravel(estimator.coef_), np.ravel(estimator.intercept_)[0]

    return oracle


def statsmodels(family, **options):
    def oracle(y):
        fit = sm.GLM(y, DESIGN, family=family, **options).fit(maxiter=1000, tol=1e-14)
        return fit.params[1:], fit.params[0]

    return oracle


# Newton-Cholesky halves its gradient tolerance into the distance squared: 1e-10 is plenty.
NEWTON = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 1000}


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_counts_equal_sklearn(strength):
    kind = "Ridge" if strength else "UnRegularized"
    model = population("Poisson", kind=kind, strength=strength or None)
    oracle = sklearn(linear_model.PoissonRegressor(alpha=strength, **NEWTON))
    assert_columns_equal(model, oracle, "Poisson")


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_gamma_equals_sklearn(strength):
    """Its loss is half the deviance, which is ours up to a constant."""
    kind = "Ridge" if strength else "UnRegularized"
    model = population("Gamma", "exp", kind, strength or None)
    oracle = sklearn(linear_model.GammaRegressor(alpha=strength, **NEWTON))
    assert_columns_equal(model, oracle, "Gamma")


@pytest.mark.parametrize("strength", [None, 0.1])
def test_binary_responses_equal_sklearn(strength):
    """The penalty there is one half over C, beside a sum over rows."""
    model = population(
        "Bernoulli", kind="Ridge" if strength else "UnRegularized", strength=strength
    )
    C = np.inf if strength is None else 1 / (N * strength)
    oracle = sklearn(linear_model.LogisticRegression(C=C, **NEWTON))
    assert_columns_equal(model, oracle, "Bernoulli")


@pytest.mark.parametrize("strength", [0.01, 0.1])
def test_labels_equal_sklearn(strength):
    model = nmo.glm.ClassifierPopulationGLM(tables.N_CLASSES, None, "Ridge", strength)
    coef, intercept = fitted(model.fit(X, tables.LABELS))
    other = linear_model.LogisticRegression(C=1 / (N * strength), **NEWTON)
    for k in NEURONS:
        other.fit(X, tables.LABELS[:, k])
        np.testing.assert_allclose(coef[:, k], other.coef_.T, rtol=0, atol=ATOL)
        shift = other.intercept_.mean()
        np.testing.assert_allclose(intercept[k], other.intercept_ - shift, rtol=0, atol=ATOL)


# Coordinate descent stops by its duality gap relative to |y|^2; the error is the root of it.
DESCENT = {"tol": 1e-15, "max_iter": 100_000}


@pytest.mark.parametrize(
    ("kind", "strength", "estimator"),
    [
        ("UnRegularized", None, linear_model.LinearRegression()),
        # Squares without the half: their penalties are ours, halved; Ridge has a sum instead of a mean.
        ("Ridge", 0.1, linear_model.Ridge(alpha=N * 0.05, solver="cholesky")),
        ("Lasso", 0.1, linear_model.Lasso(alpha=0.05, **DESCENT)),
        ("ElasticNet", (0.1, 0.3), linear_model.ElasticNet(alpha=0.05, l1_ratio=0.3, **DESCENT)),
    ],
)
def test_gaussian_equals_sklearn(kind, strength, estimator):
    model = population("Gaussian", kind=kind, strength=strength)
    assert_columns_equal(model, sklearn(estimator), "Gaussian")


@pytest.mark.parametrize(
    ("name", "link", "family"),
    [
        ("Poisson", "exp", sm.families.Poisson()),
        ("Gamma", "exp", sm.families.Gamma(sm.families.links.Log())),
        ("Gaussian", "identity", sm.families.Gaussian()),
        ("Bernoulli", "logistic", sm.families.Binomial()),
        ("Bernoulli", "norm_cdf", sm.families.Binomial(sm.families.links.Probit())),
        ("NegativeBinomial", "exp", sm.families.NegativeBinomial(alpha=1.0)),
    ],
)
def test_unpenalised_fits_equal_statsmodels(name, link, family):
    # Its reweighting stops when the deviance is constant to 1e-14, and that is flat to 1e-7 around the
    # optimum: 1e-7 / sqrt(n) there.
    assert_columns_equal(population(name, link), statsmodels(family), name)


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_negative_binomial_of_a_given_dispersion_equals_statsmodels(scale):
    family = nmo.observation_models.NegativeBinomialObservations(scale)
    model = nmo.glm.PopulationGLM(family).fit(X, tables.RESPONSES["NegativeBinomial"])
    oracle = statsmodels(sm.families.NegativeBinomial(alpha=scale))
    assert_columns_equal(model, oracle, "NegativeBinomial")


@pytest.mark.parametrize(
    ("name", "link", "family"),
    [
        ("Gaussian", "identity", sm.families.Gaussian()),
        ("Gamma", "exp", sm.families.Gamma(sm.families.links.Log())),
    ],
)
def test_dispersion_and_degrees_of_freedom_equal_statsmodels(name, link, family):
    model = population(name, link)
    for k in NEURONS:
        other = sm.GLM(tables.RESPONSES[name][:, k], DESIGN, family=family).fit(
            scale="X2", tol=1e-14, maxiter=1000
        )
        # scale_ is shown in single precision
        np.testing.assert_allclose(np.asarray(model.scale_)[k], other.scale, rtol=1e-6)
        assert np.asarray(model.dof_resid_)[k] == other.df_resid


def test_gamma_with_its_canonical_link_equals_statsmodels(rng):
    """Reweighting leaves the support unless the features are bounded, so that no predictor is near zero."""
    X = np.tanh(tables.X)
    y = rng.gamma(2.0, 0.5 / (2.0 + X @ tables.COEF))
    model = nmo.glm.PopulationGLM("Gamma").fit(X, y)
    coef, intercept = fitted(model)
    family = sm.families.Gamma(sm.families.links.InversePower())
    for k in NEURONS:
        other = sm.GLM(y[:, k], sm.add_constant(X), family=family).fit(tol=1e-14, maxiter=1000)
        np.testing.assert_allclose(coef[:, k], other.params[1:], rtol=0, atol=ATOL)
        np.testing.assert_allclose(intercept[k], other.params[0], rtol=0, atol=ATOL)
        np.testing.assert_allclose(np.asarray(model.scale_)[k], other.scale, rtol=1e-6)


def test_offset_equals_statsmodels(rng):
    offset = rng.normal(size=N)
    model = population("Poisson", offset=offset)
    assert_columns_equal(model, statsmodels(sm.families.Poisson(), offset=offset), "Poisson")


@pytest.mark.parametrize(
    ("name", "link", "family"),
    [
        ("Poisson", "exp", sm.families.Poisson()),
        ("Gamma", "exp", sm.families.Gamma(sm.families.links.Log())),
        ("Gaussian", "identity", sm.families.Gaussian()),
    ],
)
def test_weights_are_the_frequencies_of_statsmodels(name, link, family, rng):
    weight = rng.integers(1, 5, size=N).astype(float)
    model = population(name, link, sample_weight=weight)
    assert_columns_equal(model, statsmodels(family, freq_weights=weight), name)
    for k in NEURONS:
        other = sm.GLM(tables.RESPONSES[name][:, k], DESIGN, family=family, freq_weights=weight)
        other = other.fit(tol=1e-14, maxiter=1000)
        np.testing.assert_allclose(np.asarray(model.scale_)[k], other.scale, rtol=1e-6)
        assert np.asarray(model.dof_resid_)[k] == other.df_resid


@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_sparse_counts_equal_statsmodels(ratio):
    """Its penalty takes one strength per parameter: the intercept has none."""
    strength = 0.05
    kind, given = ("Lasso", strength) if ratio == 1 else ("ElasticNet", (strength, ratio))
    model = population("Poisson", kind=kind, strength=given)
    alpha = np.append(0.0, np.full(tables.N_FEATURES, strength))

    def oracle(y):
        glm = sm.GLM(y, DESIGN, family=sm.families.Poisson())
        fit = glm.fit_regularized(
            alpha=alpha, L1_wt=ratio, cnvrg_tol=1e-12, maxiter=1000, zero_tol=1e-12
        )
        return fit.params[1:], fit.params[0]

    # One quadratic step per coordinate and sweep, until a sweep moves nothing by more than 1e-12.
    assert_columns_equal(model, oracle, "Poisson")


def test_unpenalised_labels_equal_statsmodels():
    """It sets the first class to zero."""
    model = nmo.glm.ClassifierPopulationGLM(tables.N_CLASSES, None, "UnRegularized")
    coef, intercept = fitted(model.fit(X, tables.LABELS))
    for k in NEURONS:
        other = (
            sm.MNLogit(tables.LABELS[:, k], DESIGN)
            .fit(method="newton", disp=False, tol=1e-12)
            .params
        )
        np.testing.assert_allclose(coef[:, k, 1:] - coef[:, k, :1], other[1:], rtol=0, atol=ATOL)
        np.testing.assert_allclose(intercept[k, 1:] - intercept[k, 0], other[0], rtol=0, atol=ATOL)
