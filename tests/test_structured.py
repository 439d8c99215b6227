"""Priors with structure: what they are in the limits, what they do not depend on, and what they refuse."""

import copy

import numpy as np
import pytest
import tables
from own_priors import OWN, differences
from scipy import stats
from scipy.interpolate import BSpline

import bayesglm as nmo
from bayesglm import prior
from bayesglm.glm import GLM, ClassifierGLM, PopulationGLM
from bayesglm.regularizer import GaussianProcess, Laplace, Normal, Quadratic, Smooth

N, P = 60, 7
_rng = np.random.default_rng(3)
PLACE = _rng.uniform(0.0, 1.0, N)
KNOTS = np.concatenate([np.zeros(3), np.linspace(0.0, 1.0, P - 2), np.ones(3)])
#: B-splines, of which the features of a row sum to one.
BASIS = BSpline.design_matrix(PLACE, KNOTS, 3).toarray()
ETA = np.sin(5.0 * PLACE)[:, None] * np.array([1.0, -0.5, 0.3])
Y = ETA + 0.3 * _rng.normal(size=(N, 3))
COUNTS = _rng.poisson(np.exp(ETA)).astype(float)
LABELS = np.argmax(ETA + _rng.gumbel(size=ETA.shape), axis=1)
PLAIN = _rng.normal(size=(N, P))


def smooth(strength, kind=GLM, **how):
    return kind(regularizer=Smooth(), regularizer_strength=strength, **how)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_a_huge_strength_leaves_a_polynomial_of_the_order_less_one(order):
    model = GLM("Gaussian", regularizer=Smooth(order), regularizer_strength=1e8)
    found = model.fit(PLAIN, Y[:, 0]).coef_
    few = np.vander(np.arange(P), order)
    design = np.column_stack([PLAIN @ few, np.ones(N)])
    expected = few @ np.linalg.lstsq(design, Y[:, 0], rcond=None)[0][:-1]
    np.testing.assert_allclose(
        found, expected, atol=1e-5
    )  # what is left of the data, 1 / 1e8, and the solver's 1e-6


@pytest.mark.parametrize("kind", [Smooth(), GaussianProcess("matern52"), Quadratic(np.eye(P))])
def test_a_strength_of_zero_is_no_prior(kind):
    found = GLM("Gaussian", regularizer=kind, regularizer_strength=0.0).fit(PLAIN, Y[:, 0])
    expected = GLM("Gaussian").fit(PLAIN, Y[:, 0])
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-6)


def test_a_gaussian_process_of_short_length_is_ridge():
    kind = GaussianProcess(lengthscale=0.01)
    found = GLM("Gaussian", regularizer=kind, regularizer_strength=0.3).fit(PLAIN, Y[:, 0])
    ridge = GLM("Gaussian", regularizer="Ridge", regularizer_strength=0.3).fit(PLAIN, Y[:, 0])
    np.testing.assert_allclose(found.coef_, ridge.coef_, atol=2e-6)  # variances differ by 1e-6


def test_an_absolute_prior_is_the_documented_one_at_its_rows():
    """Ridge of strength s with n rows and kappa = 1 is a standard deviation of 1 / sqrt(n s); Lasso likewise."""
    pairs = ((Normal(0.0, 0.5), "Ridge", 4.0 / N), (Laplace(0.5), "Lasso", 2.0 / N))
    for kind, name, strength in pairs:
        found = GLM(regularizer=kind).fit(PLAIN, COUNTS[:, 0]).coef_
        expected = GLM(regularizer=name, regularizer_strength=strength).fit(PLAIN, COUNTS[:, 0])
        np.testing.assert_allclose(found, expected.coef_, atol=3e-6)


def test_an_absolute_prior_has_numbers_for_each_feature_and_each_coefficient():
    each, location = np.linspace(0.1, 1.0, P), np.linspace(-0.2, 0.2, P)
    whole = PopulationGLM(regularizer=Normal(location, each)).fit(PLAIN, COUNTS).coef_
    full = Normal(np.tile(location[:, None], 3), np.tile(each[:, None], 3))
    same = PopulationGLM(regularizer=full).fit(PLAIN, COUNTS).coef_
    np.testing.assert_array_equal(whole, same)
    tight = GLM(regularizer=Normal(location, 1e-6)).fit(PLAIN, COUNTS[:, 0]).coef_
    np.testing.assert_allclose(tight, location, atol=1e-6)  # a few standard deviations at most


# -- structure -------------------------------------------------------------------------------------


def test_a_sum_of_axes_is_differences_along_each():
    w = _rng.normal(size=(3, 4))
    P = Smooth(2, shape=(3, 4)).precision_of(12)
    expected = np.sum(np.diff(w, 2, axis=0) ** 2) + np.sum(np.diff(w, 2, axis=1) ** 2)
    np.testing.assert_allclose(w.ravel() @ P.along(w.ravel()), expected, rtol=1e-12)
    ring = Smooth(2, periodic=(False, True), shape=(3, 4)).precision_of(12)
    around = np.diff(np.concatenate([w, w[:, :2]], axis=1), 2, axis=1)
    expected = np.sum(np.diff(w, 2, axis=0) ** 2) + np.sum(around**2)
    np.testing.assert_allclose(w.ravel() @ ring.along(w.ravel()), expected, rtol=1e-12)


@pytest.mark.parametrize("kernel", ["squared_exponential", "matern32", "matern52", "periodic"])
def test_a_process_depends_on_distances_in_units_of_its_length(kernel):
    x = _rng.uniform(0.0, 3.0, size=(6, 2))

    def at(x, unit=1.0):
        # a period has a unit, and the length beside it none
        lengths = (1.0 if kernel == "periodic" else unit) * np.array([0.7, 1.9])
        return GaussianProcess(kernel, x, lengths, period=unit * 2.5).covariance(6)

    K = at(x)
    np.testing.assert_allclose(np.diag(K), 1.0 + 1e-6)
    np.testing.assert_allclose(at(x + 4.0), K, atol=1e-12)
    np.testing.assert_allclose(at(10.0 * x, 10.0), K, atol=1e-12)
    np.testing.assert_allclose(at(x[::-1]), K[::-1, ::-1], atol=1e-12)
    assert np.linalg.eigvalsh(K).min() >= 0.9e-6  # positive definite, and a jitter
    if kernel == "periodic":
        np.testing.assert_allclose(at(x + np.array([2.5, 5.0]) * (np.arange(6) % 2)[:, None]), K)


def test_kernels_are_those_of_the_textbook():
    """Rasmussen, Williams (2006), equations 4.9, 4.17 and 4.31, at a distance of one length."""
    expected = {
        "squared_exponential": np.exp(-0.5),
        "matern32": (1.0 + np.sqrt(3.0)) * np.exp(-np.sqrt(3.0)),
        "matern52": (1.0 + np.sqrt(5.0) + 5.0 / 3.0) * np.exp(-np.sqrt(5.0)),
        "periodic": np.exp(-2.0 * np.sin(np.pi * 2.0 / 5.0) ** 2 / 4.0),
    }
    for kernel, value in expected.items():
        K = GaussianProcess(kernel, [0.0, 2.0], 2.0, 5.0).covariance(2)
        assert K[0, 1] == pytest.approx(value)


# -- what is one with the intercept ----------------------------------------------------------------


def test_a_pinned_precision_is_its_matrix():
    inner = Smooth(2, shape=(3, 4)).precision_of(12)
    found = prior.Pinned(inner, 0.7)
    matrix, x = np.asarray(inner.dense()) + 0.7, _rng.normal(size=(12, 2))
    np.testing.assert_allclose(found.dense(), matrix)
    np.testing.assert_allclose(found @ x, matrix @ x, atol=1e-12)
    np.testing.assert_allclose(found.diagonal(), np.diag(matrix))
    values = np.linalg.eigvalsh(matrix)
    assert found.rank == np.sum(values > 1e-10) == inner.rank + 1
    np.testing.assert_allclose(found.log_det(), np.log(values[values > 1e-10]).sum())
    null = found.null_space()
    assert null.shape == (12, 12 - found.rank)
    np.testing.assert_allclose(matrix @ null, 0.0, atol=1e-12)


def exact(strength, y):
    """Predictor of the penalised least squares fit, in which the constant is there twice."""
    Z = np.column_stack([BASIS, np.ones(N)])
    curvature = 2.0 * Z.T @ Z / N
    curvature[:P, :P] += strength * differences(P, 2)
    covariance = np.linalg.pinv(curvature, rcond=1e-12)
    return Z @ covariance @ (2.0 * Z.T @ y / N), np.einsum("ni,ij,nj->n", Z, covariance, Z)


def test_splines_beside_the_intercept_have_a_mean_of_zero_and_the_predictions_of_any_other_split():
    model = PopulationGLM("Gaussian", regularizer=Smooth(), regularizer_strength=0.02)
    model.fit(BASIS, Y)
    np.testing.assert_allclose(model.coef_.mean(axis=0), 0.0, atol=1e-6)
    expected = np.stack([exact(0.02, y)[0] for y in Y.T], axis=1)
    np.testing.assert_allclose(model.predict(BASIS), expected, atol=1e-5)  # shown in float32
    said = model.report(BASIS, Y).to_dict()["settings"]
    assert said["mean coefficient of zero"] == "0 to 6"


@pytest.mark.parametrize("method", ["nuts", "laplace"])
def test_draws_of_splines_are_those_of_the_identified_posterior(method):
    model = smooth(0.02, observation_model="Gaussian")
    how = {"num_samples": 300, "num_chains": 2, "scale": "plugin", "progress_bar": False}
    model.sample_posterior(BASIS, Y[:, 0], method=method, random_key=3, **how)
    drawn = model.posterior_["posterior"]
    coef = drawn["coef"].values.reshape(-1, P)
    eta = coef @ BASIS.T + drawn["intercept"].values.reshape(-1, 1)
    mean, variance = exact(0.02, Y[:, 0])
    sd = np.sqrt(variance * 2.0 * float(np.squeeze(model.scale_)) / N)
    z = ((eta - mean) / sd)[::3]  # all but independent
    for row in range(0, N, 20):
        assert stats.kstest(z[:, row], stats.norm.cdf).pvalue > 1e-4
    # a thousand times the rows, at a curvature of two: 1 / sqrt(2000) of the standard error of a mean
    assert coef.mean(axis=1).std() < 0.1 * eta.mean(axis=1).std()


def test_splines_of_counts_can_be_fitted_and_sampled():
    model = smooth(0.02, PopulationGLM)
    model.sample_posterior(BASIS, COUNTS, num_samples=100, num_chains=2, progress_bar=False)
    assert np.abs(model.coef_.mean(axis=0)).max() < 1e-5
    assert not model.posterior_["sample_stats"]["diverging"].values.any()


def test_splines_of_labels_have_a_mean_of_zero_in_each_class():
    model = smooth(0.05, ClassifierGLM, n_classes=3)
    model.fit(BASIS, LABELS)
    np.testing.assert_allclose(model.coef_.mean(axis=0), 0.0, atol=1e-5)


def test_what_is_no_constant_is_not_pinned():
    """Masked features, features that sum to something else, and leaves of zero strength."""
    mask = np.ones((P, 3), int)
    mask[0, 0] = 0
    for X, how in (
        (BASIS, {"feature_mask": mask}),
        (BASIS * np.linspace(1.0, 2.0, N)[:, None], {}),
    ):
        model = smooth(0.02, PopulationGLM, **how).fit(X, COUNTS)
        assert np.abs(model.coef_[:, 0].mean()) > 1e-3
    with pytest.raises(ValueError, match="improper"):
        smooth(0.0).sample_posterior(BASIS, COUNTS[:, 0], progress_bar=False)


@pytest.mark.parametrize("how", ["float32", "holes", "file", "weights", "scaled"])
def test_splines_are_pinned_however_their_rows_are_held(how, tmp_path):
    X, more = BASIS, {}
    if how == "float32":
        X = BASIS.astype(np.float32)
    if how == "holes":
        X = BASIS.copy()
        X[3, 2] = np.nan
    if how == "file":
        np.save(tmp_path / "X.npy", BASIS)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    if how == "weights":  # a row that does not count may be anything
        X, more = np.vstack([BASIS, np.arange(P)]), {"sample_weight": np.append(np.ones(N), 0.0)}
    if how == "scaled":
        X = 1e3 * BASIS
    y = np.append(COUNTS[:, 0], 1.0)[: len(X)]
    model = smooth(2e4 if how == "scaled" else 0.02).fit(X, y, **more)
    size = 1e-3 if how == "scaled" else 1.0
    # within 1e-6 standard errors of a narrow prior; float32 rounds coefficients of order one
    assert abs(model.coef_.mean()) < 1e-6 * size
    assert np.abs(model.coef_).max() > 0.1 * size


def test_a_leaf_of_splines_that_a_neuron_does_not_use_is_pinned_for_the_others():
    X = {"place": BASIS, "more": PLAIN[:, :2]}
    mask = {"place": np.array([1, 0, 1]), "more": np.ones(3, int)}
    kinds = {"regularizer": {"place": Smooth()}, "regularizer_strength": 0.02}
    model = PopulationGLM(feature_mask=mask, **kinds).fit(X, COUNTS)
    np.testing.assert_allclose(model.coef_["place"].mean(axis=0), 0.0, atol=1e-6)
    assert not model.coef_["place"][:, 1].any()


# -- errors ----------------------------------------------------------------------------------------

BAD = {
    "order": (lambda: Smooth(0), "positive integer, but 0"),
    "few": (lambda: Smooth(7), "at least 8 features"),
    "shape": (lambda: Smooth(shape=(2, 3)), "grid of 6, but there are 7 features"),
    "no shape": (lambda: Smooth(shape=(7.0,)), "tuple of positive integers"),
    "axes": (lambda: Smooth(periodic=(True, False)), "one of these for each of 1 axes"),
    "kernel": (lambda: GaussianProcess("matern"), "Did you mean 'matern"),
    "coordinates": (lambda: GaussianProcess(coordinates=np.arange(6)), r"\(6,\).*7 features"),
    "period": (lambda: GaussianProcess("periodic"), "needs a `period`"),
    "length": (lambda: GaussianProcess(lengthscale=[1.0, 2.0]), "each of 1 dimensions"),
    "no length": (lambda: GaussianProcess(lengthscale=0.0), "positive number"),
    "not finite": (lambda: GaussianProcess(coordinates=np.full(7, np.nan)), "must be finite"),
    "asymmetric": (lambda: Quadratic([[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
    "indefinite": (lambda: Quadratic([[1.0, 2.0], [2.0, 1.0]]), "no negative eigenvalue"),
    "size": (lambda: Quadratic(np.eye(3)), "3 rows, but there are 7 features"),
    "no matrix": (lambda: "Quadratic", "no default"),
    "scale": (lambda: Normal(scale=0.0), "must be positive"),
    "no scale": (lambda: Laplace(np.nan), "must be finite"),
    "scales": (lambda: Normal(scale=np.ones(3)), r"\(3,\).*\(7,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_prior_is_refused_before_anything_is_computed(case, monkeypatch):
    make, message = BAD[case]
    monkeypatch.setattr("bayesglm.glm._fitting.fit", None)
    with pytest.raises(ValueError, match=message):
        GLM(regularizer=make()).fit(PLAIN, COUNTS[:, 0])


def test_what_is_no_number_is_refused():
    for make in (lambda: Normal("wide"), lambda: Laplace(None), lambda: Quadratic([["a"]])):
        with pytest.raises(TypeError, match="must be a number or an array"):
            make()


def test_an_absolute_prior_takes_no_strength():
    with pytest.raises(ValueError, match="Normal has no strength"):
        GLM(regularizer=Normal(), regularizer_strength=1.0)
    model = GLM(regularizer="Ridge", regularizer_strength=1.0).set_params(regularizer=Normal())
    assert model.regularizer_strength is None


@pytest.mark.parametrize(
    "name", ["smooth", "ring", "image", "process", "quadratic", "normal", "absolute laplace"]
)
def test_priors_with_structure_come_back_from_files(name, tmp_path):
    kind, strength = OWN[name]
    model = GLM(regularizer=copy.copy(kind), regularizer_strength=strength)
    model.fit(tables.X[:24], tables.RESPONSES["Poisson"][:24, 0]).save_params(tmp_path / "m.npz")
    found = nmo.load_model(tmp_path / "m.npz")
    assert type(found.regularizer) is type(kind)
    assert repr(found) == repr(model)
    for key, value in kind.get_params().items():
        np.testing.assert_array_equal(found.regularizer.get_params()[key], value)
    again = found.fit(tables.X[:24], tables.RESPONSES["Poisson"][:24, 0])
    np.testing.assert_array_equal(again.coef_, model.coef_)
