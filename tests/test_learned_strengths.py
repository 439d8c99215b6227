"""Strengths that are learned: stationary points of the evidence, whatever the family, and what follows from them."""

import warnings

import numpy as np
import numpyro.distributions as dist
import pytest
from learned import FLAT, Two, distance, exact
from sklearn.base import clone
from sklearn.linear_model import BayesianRidge
from tables import COEF, FAMILY_LINKS, LABELS, RESPONSES, X

import bayesglm as nmo
from bayesglm.prior import Scale

# The last step leaves about the square of 1e-2 standard errors; a hundredth of one is nothing to a user.
STATIONARY = 1e-3


def population(family="Poisson", strength="auto", regularizer="Ridge", **kwargs):
    return nmo.glm.PopulationGLM(
        observation_model=family, regularizer=regularizer, regularizer_strength=strength, **kwargs
    )


@pytest.mark.parametrize(
    ("family", "link"), [(f, link) for f, some in FAMILY_LINKS.items() for link in some]
)
def test_a_learned_strength_is_a_stationary_point_of_evidence_and_prior(family, link):
    y = RESPONSES[family]
    model = population(family, inverse_link_function=link).fit(X, y)
    assert (distance(model, X, y, 0) < STATIONARY).all()


@pytest.mark.parametrize(
    ("regularizer", "strength"),
    [(Two(), "auto"), ("Ridge", Scale(per_feature=True)), ("Ridge", Scale(dist.HalfNormal(0.1)))],
    ids=["two terms", "per feature", "own prior"],
)
def test_every_strength_of_several_is_a_stationary_point(regularizer, strength):
    y, model = RESPONSES["Gaussian"], population("Gaussian", strength, regularizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some features have no effect
        model.fit(X, y)
    for group in range(len(model._fit.learned.groups)):
        inside = ~model._fit.learned.low[group]
        assert (distance(model, X, y, group)[inside] < STATIONARY).all()


def test_a_strength_of_classes_is_a_stationary_point():
    model = nmo.glm.ClassifierPopulationGLM(3, regularizer_strength="auto").fit(X, LABELS)
    assert (distance(model, X, LABELS, 0) < STATIONARY).all()


def test_a_shared_strength_is_the_mode_of_the_sum():
    y = RESPONSES["Poisson"]
    model = population(strength=Scale(shared=True)).fit(X, y)
    assert np.ptp(model._fit.learned.sd) < 1e-12
    assert distance(model, X, y, 0, together=True) < STATIONARY


def test_the_evidence_of_a_gaussian_model_is_its_marginal_likelihood():
    y = RESPONSES["Gaussian"][:, 0]
    model = nmo.glm.GLM("Gaussian", regularizer="Ridge", regularizer_strength="auto").fit(X, y)
    sd, scale = model._fit.learned.sd[0, 0], model._fit.learned.scale[0]
    # both are sums of a few hundred numbers of order one
    assert float(model.log_evidence(X, y)) == pytest.approx(exact(X, y, sd, scale), abs=1e-7)


def test_the_evidence_of_known_strengths_differs_as_the_marginal_likelihood_does():
    y, found = RESPONSES["Gaussian"][:, 0], []
    for strength in (0.01, 1.0):
        model = nmo.glm.GLM("Gaussian", regularizer="Ridge", regularizer_strength=strength)
        model.fit(X, y)
        scale = float(model._fit.scale[0])
        ours = float(model.log_evidence(X, y))
        found.append(ours - exact(X, y, np.sqrt(2.0 * scale / (len(y) * strength)), scale))
    assert found[0] == pytest.approx(found[1], abs=1e-8)


def test_under_a_flat_prior_it_is_the_bayesian_ridge_of_scikit_learn():
    # theirs is flat in the logs of both precisions, and profiles the intercept; with 200 rows that is within 1 %
    y = RESPONSES["Gaussian"][:, 0]
    ours = nmo.glm.GLM("Gaussian", regularizer="Ridge", regularizer_strength=FLAT).fit(X, y)
    theirs = BayesianRidge(alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, tol=1e-10, max_iter=5000)
    theirs.fit(X, y)
    np.testing.assert_allclose(ours.prior_sd_, theirs.lambda_**-0.5, rtol=1e-2)
    np.testing.assert_allclose(ours.scale_[0], 1.0 / theirs.alpha_, rtol=1e-2)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-2)


def test_random_intercepts_are_those_of_a_mixed_model():
    import statsmodels.api as sm

    table = sm.datasets.grunfeld.load_pandas().data
    firms = table["firm"].to_numpy()
    names = np.unique(firms)
    value = table[["value", "capital"]].to_numpy() / 1e3
    y = table["invest"].to_numpy() / 1e2
    theirs = sm.MixedLM(y, sm.add_constant(value), groups=firms).fit(reml=True)

    class Random(nmo.regularizer.Regularizer):
        def terms(self, strength, mask, broadcast, leaf_slices):
            from bayesglm.prior import Flat, Gaussian

            rows = range(2, 2 + len(names))
            return Flat(features=range(2)), Gaussian(
                strength=broadcast(strength)[2:], features=rows
            )

    design = np.column_stack([value, firms[:, None] == names])
    ours = nmo.glm.GLM("Gaussian", regularizer=Random(), regularizer_strength=FLAT).fit(design, y)
    np.testing.assert_allclose(ours.prior_sd_**2, theirs.cov_re[0, 0], rtol=1e-2)
    np.testing.assert_allclose(ours.scale_[0], theirs.scale, rtol=1e-2)
    np.testing.assert_allclose(ours.coef_[:2], theirs.fe_params[1:], rtol=1e-2)
    effects = np.array([theirs.random_effects[name].iloc[0] for name in names])
    np.testing.assert_allclose(ours.coef_[2:], effects, rtol=1e-2, atol=1e-2 * effects.std())


# -- invariances -----------------------------------------------------------------------------------


def same(one, other, factor=1.0):
    # what the stop rule leaves, and float32 of what is shown
    np.testing.assert_allclose(np.asarray(one) * factor, other, rtol=1e-4)


def test_a_population_learns_the_strengths_of_its_neurons_alone():
    y = RESPONSES["Poisson"]
    together = population().fit(X, y)
    alone = [
        nmo.glm.GLM(regularizer="Ridge", regularizer_strength="auto").fit(X, y[:, k]).strength_
        for k in range(y.shape[1])
    ]
    same(together.strength_, alone)


def test_a_fit_with_the_learned_strength_as_a_number_is_the_same():
    y = RESPONSES["Poisson"]
    model = population().fit(X, y)
    strength = np.tile(model._fit.learned.strength, (4, 1))
    known = population(strength=strength).fit(X, y)
    np.testing.assert_allclose(model.coef_, known.coef_, atol=1e-5)
    np.testing.assert_allclose(model.log_evidence(X, y), known.log_evidence(X, y), rtol=1e-9)


@pytest.mark.parametrize("family", ["Gaussian", "Poisson"])
def test_units_of_features_do_not_matter(family):
    y = RESPONSES[family]
    one, other = population(family).fit(X, y), population(family).fit(1e3 * X, y)
    same(one.prior_sd_, other.prior_sd_, 1e-3)


def test_units_of_responses_do_not_matter():
    y = RESPONSES["Gaussian"]
    one, other = population("Gaussian").fit(X, y), population("Gaussian").fit(X, 1e3 * y + 7.0)
    same(one.prior_sd_, other.prior_sd_, 1e3)
    inverse = [
        population("Gamma", inverse_link_function="one_over_x").fit(X, unit * RESPONSES["Gamma"])
        for unit in (1.0, 1e3)
    ]
    same(inverse[0].prior_sd_, inverse[1].prior_sd_, 1e-3)


def test_a_weight_of_two_is_a_row_twice_and_the_order_of_rows_does_not_matter():
    y = RESPONSES["Poisson"]
    weight = np.arange(len(y)) % 3
    weighted = population().fit(X, y, sample_weight=weight)
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(len(y)), weight))
    same(weighted.strength_, population().fit(X[rows], y[rows]).strength_)


def test_an_offset_is_a_coefficient_that_is_known():
    y, offset = RESPONSES["Gaussian"], 0.5 * X[:, 0]
    # the default prior is in units of the responses, of which an offset is no part
    flat = [
        population("Gaussian", FLAT).fit(X[:, 1:], y, offset=offset).prior_sd_,
        population("Gaussian", FLAT).fit(X[:, 1:], y - offset[:, None]).prior_sd_,
    ]
    same(*flat)


def test_a_masked_feature_is_a_column_left_out():
    y, mask = RESPONSES["Poisson"], np.ones((4, 3))
    mask[2] = 0
    masked = population(feature_mask=mask).fit(X, y)
    same(masked.strength_, population().fit(np.delete(X, 2, axis=1), y).strength_)


def test_single_precision_learns_the_same():
    y = RESPONSES["Poisson"]
    one, other = population().fit(X, y), population().fit(X.astype(np.float32), y)
    np.testing.assert_allclose(one.strength_, other.strength_, rtol=1e-4)


def test_a_sample_that_the_search_begins_on_changes_nothing():
    rng = np.random.default_rng(0)
    many = rng.normal(size=(16_000, 4))
    y = rng.poisson(np.exp(many @ COEF)).astype(float)
    model = population().fit(many, y)
    assert (distance(model, many, y, 0) < STATIONARY).all()


# -- what cannot be learned ------------------------------------------------------------------------


def test_features_without_an_effect_end_at_the_bound_and_are_named():
    y = RESPONSES["Poisson"].copy()
    y[:, 1] = np.arange(len(y)) % 2  # nothing to do with X, and less than chance
    with pytest.warns(UserWarning, match="features 0 to 3 of Neurons 1: no sign of an effect"):
        model = population().fit(X, y)
    assert np.abs(model.coef_[:, 1]).max() < 1e-3
    same(
        np.delete(model.strength_, 1),
        np.delete(population().fit(X, RESPONSES["Poisson"]).strength_, 1),
    )


def test_more_coefficients_than_rows_beside_a_dispersion_are_told_of(rng):
    """There the evidence may rise without end while the dispersion vanishes, and the search ends anywhere."""
    Z = rng.normal(size=(12, 14))
    y = Z[:, :2] + rng.normal(size=(12, 2))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        population("Gaussian", FLAT).fit(Z, y)
    assert any("0, 1: the search" in text and "as rows" in text for text in map(str, told))


def test_a_silent_neuron_costs_no_other():
    y = RESPONSES["Poisson"].copy()
    y[:, 1] = 0
    with pytest.warns(RuntimeWarning, match="Neurons 1: could not be fitted"):
        model = population().fit(X, y)
    assert np.isnan(model.strength_[1])
    assert np.isnan(model.log_evidence(X, y)[1])
    full = population().fit(X, RESPONSES["Poisson"])
    same(model.strength_[::2], full.strength_[::2])


@pytest.mark.parametrize("regularizer", ["Lasso", "GroupLasso", "ElasticNet"])
def test_a_prior_with_a_kink_is_refused_with_the_way_out(regularizer):
    with pytest.raises(ValueError, match="cross-validation"):
        nmo.glm.GLM(regularizer=regularizer, regularizer_strength="auto")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"prior": dist.Normal(0, 1)}, "positive numbers as its support"),
        ({"prior": dist.HalfNormal(np.ones(2))}, "distribution of one number"),
        ({"prior": 1.0}, "must be a NumPyro distribution"),
        ({"shared": 1}, "must be a bool"),
    ],
)
def test_a_scale_that_is_none_is_refused(arguments, match):
    with pytest.raises((ValueError, TypeError), match=match):
        Scale(**arguments)


def test_words_that_are_no_strength_are_refused():
    with pytest.raises(TypeError, match="regularizer_strength"):
        nmo.glm.GLM(regularizer="Ridge", regularizer_strength="automatic")
    with pytest.raises(ValueError, match="which `fit` does"):
        population().initialize_optimizer_and_state(
            (np.zeros((4, 3)), np.zeros(3)), X, RESPONSES["Poisson"]
        )
    with pytest.raises(ValueError, match="independent coefficients"):
        population(strength=Scale(per_feature=True), regularizer=Two()).fit(X, RESPONSES["Poisson"])
    with pytest.raises(ValueError, match="shared=False"):
        population("Gaussian", Scale(shared=True)).fit(X, RESPONSES["Gaussian"])


# -- what is kept ----------------------------------------------------------------------------------


def test_learned_strengths_travel_with_the_fit_and_not_with_a_clone(tmp_path):
    y = RESPONSES["Poisson"]
    model = population(strength=Scale(dist.HalfNormal(2.0))).fit(X, y)
    model.save_params(tmp_path / "model")
    loaded = nmo.load_model(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.strength_, model.strength_)
    np.testing.assert_array_equal(loaded.log_evidence(X, y), model.log_evidence(X, y))
    assert repr(loaded) == repr(model)
    copy = clone(model)
    assert copy.strength_ is None
    same(copy.fit(X, y).strength_, model.strength_)


def test_a_table_says_that_strengths_are_held():
    y = RESPONSES["Gaussian"]
    table = population("Gaussian").fit(X, y).summary(X, y)
    assert "as if they were known" in table.attrs["interval"]
    assert set(table.attrs["learned"]) == {"strength", "prior_sd", "effective_dof"}
    assert (np.array(table.attrs["learned"]["effective_dof"]) < 4).all()


def test_draws_are_those_of_the_learned_strengths():
    y = RESPONSES["Poisson"]
    options = {"method": "laplace", "num_samples": 50, "num_chains": 1, "progress_bar": False}
    model = population().sample_posterior(X, y, **options)
    known = population(strength=np.tile(model._fit.learned.strength, (4, 1)))
    known.sample_posterior(X, y, **options)
    ours, theirs = (m.posterior_["posterior"]["coef"].values for m in (model, known))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_rows_in_a_file_teach_the_same(tmp_path):
    y = RESPONSES["Poisson"]
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    same(population().fit(stored, y).strength_, population().fit(X, y).strength_)


@pytest.mark.parametrize("strength", ["auto", Scale(per_feature=True)])
def test_a_classifier_of_two_classes_learns_what_a_bernoulli_model_does(strength):
    # differences of two classes have twice the variance of each
    y = RESPONSES["Bernoulli"][:, 0]
    known = Scale(dist.HalfNormal(1e3), per_feature=strength != "auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some features have no effect
        two = nmo.glm.ClassifierGLM(2, regularizer_strength=known).fit(X, y.astype(int))
        one = nmo.glm.GLM("Bernoulli", regularizer="Ridge", regularizer_strength=known).fit(X, y)
    at = ~one._fit.learned.low[:, 0]
    np.testing.assert_allclose(
        np.sqrt(2.0) * two._fit.learned.sd[at, 0], one._fit.learned.sd[at, 0], rtol=1e-3
    )
