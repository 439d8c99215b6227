"""Laws of priors: operators, densities, penalties and what is derived from them, over the terms of one's own too."""

import jax
import jax.numpy as jnp
import numpy as np
import own_priors
import pytest
import tables
from numpyro.infer.util import log_density
from own_priors import (
    ABSOLUTE,
    FACTOR,
    LOCATION,
    MATRICES,
    OWN,
    PROPER,
    bands,
    differences,
    full_rank,
)
from scipy import stats
from scipy.integrate import simpson
from test_log_prior import assert_same as assert_same_log_priors
from test_log_prior import compared
from test_posterior_density import assert_same_density

import bayesglm as nmo
from bayesglm import prior

P = tables.N_FEATURES
N = 24
X = tables.X[:N]
MASK = np.ones((P, tables.N_NEURONS), int)
MASK[0, 1] = MASK[2, 2] = 0
SMOOTH = tuple(name for name, (kind, _) in OWN.items() if kind.smooth)
SOLVERS = ("BFGS", "LBFGS", "NonlinearCG", "GradientDescent", "Newton", "ProximalGradient", "ProxNewton")  # fmt: skip


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


# -- precisions ------------------------------------------------------------------------------------

OPERATORS = {
    "diagonal": prior.Diagonal([0.5, 0.0, 2.0]),
    "dense": prior.Dense(full_rank(5)),
    "singular": prior.Dense(differences(6, 2)),
    "banded": prior.Banded(bands(differences(7, 2), 3)),
    "sum": prior.Kronecker(
        prior.Dense(differences(3, 1)), prior.Banded(bands(differences(4, 1), 2))
    ),
    "product": prior.Kronecker(
        prior.Dense(full_rank(3)), prior.Diagonal([1.0, 3.0]), kind="product"
    ),
    "three axes": prior.Kronecker(*(prior.Dense(differences(n, 1)) for n in (2, 3, 2))),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_its_matrix(name, rng):
    operator = OPERATORS[name]
    matrix = np.asarray(operator.dense())
    x = rng.normal(size=(operator.size, 3))
    for array in (x, jnp.asarray(x)):
        np.testing.assert_allclose(operator @ array, matrix @ x, atol=1e-13)
        np.testing.assert_allclose(operator.along(array.T), x.T @ matrix, atol=1e-13)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(operator.diagonal(), np.diag(matrix), atol=1e-15)
    values = np.linalg.eigvalsh(matrix)
    positive = values[values > 1e-10]
    assert operator.rank == len(positive)
    for strength in (1.0, np.array([0.3, 7.0])):
        expected = np.sum(np.log(np.multiply.outer(strength, positive)), axis=-1)
        np.testing.assert_allclose(operator.log_det(strength), expected, rtol=1e-10)
    null = operator.null_space()
    assert null.shape == (operator.size, operator.size - operator.rank)
    np.testing.assert_allclose(matrix @ null, 0.0, atol=1e-13)
    np.testing.assert_allclose(null.T @ null, np.eye(null.shape[1]), atol=1e-13)
    covariance = np.cov(rng.normal(size=(operator.size, 20)))
    np.testing.assert_allclose(operator.trace(covariance), np.trace(matrix @ covariance))
    used = np.arange(operator.size) % 3 != 1
    inner = np.asarray(operator.restricted(used).dense())
    np.testing.assert_array_equal(inner, matrix[np.ix_(used, used)])


def test_an_operator_with_a_leading_axis_is_the_same(rng):
    for operator in OPERATORS.values():
        lifted = jax.tree.map(lambda a: np.asarray(a)[None], operator)
        x = rng.normal(size=(2, operator.size))
        np.testing.assert_array_equal(lifted.along(x), operator.along(x))
        np.testing.assert_array_equal(lifted.dense(), operator.dense())


BAD = {
    "asymmetric": (lambda: prior.Dense([[1.0, 0.5], [0.4, 1.0]]), "transpose by up to 0.1"),
    "indefinite": (lambda: prior.Dense([[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue.* has -1 "),
    "negative": (lambda: prior.Diagonal([1.0, -2.0]), "negative eigenvalue"),
    "indefinite band": (lambda: prior.Banded([[1.0, 1.0], [2.0, 0.0]]), "negative eigenvalue"),
    "not square": (lambda: prior.Dense(np.ones((2, 3))), r"square.*\(2, 3\)"),
    "not finite": (lambda: prior.Dense([[np.nan]]), "finite"),
    "a vector": (lambda: prior.Dense([1.0]), "2-dimensional"),
    "too many bands": (lambda: prior.Banded(np.ones((3, 2))), "3 bands"),
    "no factor": (lambda: prior.Kronecker(), "at least one factor"),
    "unknown kind": (lambda: prior.Kronecker(prior.Diagonal([1.0]), kind="plus"), "'plus'"),
    "unknown unit": (lambda: prior.Gaussian(unit="rows"), "'rows'"),
    "other size": (lambda: of(prior.Gaussian(np.eye(3))), "3 rows.*covers 4 features"),
    "uneven strength": (
        lambda: of(prior.Gaussian(full_rank(P), np.arange(4.0))),
        "one strength for all features",
    ),
    "negative strength": (lambda: of(prior.Laplace(-1.0)), "finite and non-negative"),
    "strengths of another shape": (lambda: of(prior.Laplace(np.ones(3))), r"\(4,\).*\(3,\)"),
    "no such feature": (lambda: of(prior.Laplace(1.0, features=[4])), "there are 4"),
    "a feature twice": (lambda: of(prior.Laplace(1.0, features=[1, -3])), "twice"),
    "covered twice": (
        lambda: of((prior.Flat(), prior.Laplace(1.0, features=[2]))),
        "Feature 2 has 2 terms",
    ),
}


def of(terms, mask=None):
    return prior.Prior.of(terms, np.ones(P, bool) if mask is None else mask)


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_prior_is_refused(case):
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_features_are_named_in_any_way_that_python_has():
    coef = np.arange(1.0, 5.0)[None, None]
    for features in (slice(-2, None), [2, 3], np.array([3, 2]), range(2, 4), [-1, -2]):
        lane = of(prior.Laplace(1.0, features=features)).in_lanes(1)
        assert lane.value(coef)[0] == 7.0
    assert of(prior.Laplace(1.0, features=slice(None))).terms[0].features is None


def test_a_term_with_a_kink_is_not_taken_for_a_smooth_one():
    kind = own_priors.Own(lambda s, p: prior.Laplace(s))
    with pytest.raises(ValueError, match="smooth = False"):
        nmo.glm.GLM(regularizer=kind, regularizer_strength=0.1).fit(
            X, tables.RESPONSES["Poisson"][:N, 0]
        )


# -- densities and proximal operators --------------------------------------------------------------


def own(name, shape=(P,), mask=None, strength=None):
    kind, default = OWN[name]
    strength = default if strength is None else strength
    mask = np.ones(shape, bool) if mask is None else mask
    return kind.prior(strength, mask, jax.tree.structure(0), mask.shape[:1])


@pytest.mark.parametrize("name", PROPER)
def test_a_proper_prior_integrates_to_one(name):
    # two features; the widest density has a standard deviation below 1.5 (gains: rates of 1.2 and 3.6)
    found = own(name, (2,), strength=40.0 * FACTOR[name]).distribution(1.0)
    grid = np.linspace(-20.0, 20.0, 1601)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    density = np.exp(jax.vmap(found.log_prob)(points.reshape(-1, 2))).reshape(points.shape[:-1])
    # Simpson's rule errs by about a step squared over a kink, which lies on the grid
    assert simpson(simpson(density, x=grid), x=grid) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", ["dense", "banded", "absolute"])
def test_draws_of_a_coupled_prior_have_the_inverse_of_its_precision(name):
    mask = np.ones((P, 2), bool)
    mask[1, 1] = False
    found = own(name, mask=mask).distribution(np.array([3.0, 5.0]))
    drawn = np.asarray(found.sample(jax.random.key(1), (20_000,)))
    for k, weight in enumerate((3.0, 5.0)):
        used = mask[:, k]
        unit = 1.0 if name in ABSOLUTE else weight
        matrix = unit * FACTOR[name] * MATRICES[name](P)[np.ix_(used, used)]
        root = np.linalg.cholesky(matrix)
        standard = drawn[:, used, k] @ root
        # sums of squares of standard normal variables, with a level of 1e-4 in all
        for column in standard.T:
            assert stats.kstest(column, stats.norm.cdf).pvalue > 1e-5
        assert np.abs(np.corrcoef(standard.T) - np.eye(used.sum())).max() < 5 / np.sqrt(20_000)


def test_a_singular_prior_cannot_be_drawn():
    with pytest.raises(NotImplementedError, match="flat on its null space"):
        own("singular").distribution(1.0).sample(jax.random.key(0))


@pytest.mark.parametrize("name", OWN)
def test_prox_is_the_minimiser_of_distance_and_penalty(name, rng):
    # the sum is strongly convex: at its minimiser, and only there, any other point is higher by |d|^2 / (2 step)
    lane, strength = own(name).in_lanes(1), FACTOR[name]
    for step in (0.1, 3.0):
        point = rng.normal(size=P)
        found = np.asarray(lane.whole_prox(point[None, None], step))[0, 0]
        compiled = lane.whole_prox(jnp.asarray(point)[None, None], step)[0, 0]
        np.testing.assert_allclose(found, compiled, atol=1e-14)

        def total(w, point=point, step=step):
            return np.sum((w - point) ** 2) / (2 * step) + own_priors.penalty(name, strength, w)

        others = found + rng.choice([1e-3, 1.0], size=(40, 1)) * rng.normal(size=(40, P))
        for w in [*others, *(found * (1 - np.eye(P)))]:
            assert total(w) >= total(found) + np.sum((w - found) ** 2) / (2 * step) - 1e-13


@pytest.mark.parametrize("name", OWN)
def test_value_and_gradient_of_lanes_are_those_of_the_textbook(name, rng):
    lane, strength, coef = own(name).in_lanes(1), FACTOR[name], rng.normal(size=P)
    expected = own_priors.penalty(name, strength, coef)
    np.testing.assert_allclose(lane.value(coef[None, None])[0], expected, rtol=1e-13)
    if name not in SMOOTH:
        return
    step, e = rng.normal(size=P), 1e-5
    slope, bend = (float(a[0]) for a in lane.along(coef[None, None], step[None, None]))
    ends = [own_priors.penalty(name, strength, coef + s * e * step) for s in (-1, 1)]
    # differences of a quadratic: rounding of 1e-16 over the step, and over its square
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / (2 * e), atol=1e-9)
    np.testing.assert_allclose(bend, (sum(ends) - 2 * expected) / e**2, atol=1e-4)


def test_log_determinants_and_traces_are_those_of_each_lane(rng):
    mask, strength = MASK.astype(bool), np.array([0.5, 2.0, 7.0])
    root = rng.normal(size=(3, 1, P, P))
    covariance = root @ np.swapaxes(root, -1, -2)
    for terms in (prior.Gaussian(full_rank(P), strength), prior.Gaussian(None, strength)):
        lane = prior.Prior.of(terms, mask).in_lanes(3)
        matrix = np.eye(P) if terms.precision is None else full_rank(P)
        (log_det,), (trace,) = lane.log_det(mask.T[:, None]), lane.trace(covariance)
        for k in range(3):
            inner = strength[k] * matrix[np.ix_(mask[:, k], mask[:, k])]
            np.testing.assert_allclose(log_det[k, 0], np.linalg.slogdet(inner)[1], rtol=1e-12)
            expected = strength[k] * np.trace(matrix @ covariance[k, 0])
            np.testing.assert_allclose(trace[k, 0], expected, rtol=1e-12)


# -- the joint density -----------------------------------------------------------------------------


def population(name, family="Poisson", mask=None, **kwargs):
    kind, strength = OWN[name]
    return nmo.glm.PopulationGLM(family, None, kind, strength, feature_mask=mask, **kwargs)


@pytest.mark.parametrize("name", OWN)
def test_the_contract_holds_for_priors_of_ones_own(name, rng):
    y, phi = tables.RESPONSES["Gaussian"][:N], np.array([0.4, 1.7, 2.9])
    joint = population(name, "Gaussian", MASK).numpyro_model(X, y, scale=phi)
    weight, strength = N * 0.5 / phi, FACTOR[name]

    def energy(coef, intercept):
        loss = np.mean((y - X @ coef - intercept) ** 2, axis=0)
        unit = 1.0 if name in ABSOLUTE else weight
        each = zip(coef.T, MASK.T, strict=True)
        penalties = np.array([own_priors.penalty(name, strength, c, m) for c, m in each])
        return np.sum(weight * loss + unit * penalties)

    points = [(rng.normal(size=MASK.shape) * MASK, rng.normal(size=3)) for _ in range(2)]
    ours = energy(*points[0]) - energy(*points[1])
    logs = [log_density(joint, (), {}, {"coef": c, "intercept": i})[0] for c, i in points]
    np.testing.assert_allclose(ours, float(logs[1] - logs[0]), rtol=1e-10)


@pytest.mark.parametrize("name", ["singular", "absolute", "located", "gains", "parts"])
def test_the_sampler_has_the_density_of_the_model_with_priors_of_ones_own(name, rng):
    estimator = population(name, "Gaussian", MASK)
    assert_same_density(estimator, tables.RESPONSES["Gaussian"][:N], rng)


@pytest.mark.parametrize("name", ["dense", "located", "gains"])
def test_so_it_has_for_classes(name, rng):
    kind, strength = OWN[name]
    estimator = nmo.glm.ClassifierPopulationGLM(3, None, kind, strength)
    assert_same_density(estimator, tables.LABELS[:N], rng)
    _, found, rest = compared(estimator, tables.LABELS[:N], rng)
    assert_same_log_priors(found, rest)


@pytest.mark.parametrize("name", OWN)
def test_log_priors_are_normalised_for_priors_of_ones_own(name, rng):
    _, found, rest = compared(population(name, "Gaussian"), tables.RESPONSES["Gaussian"][:N], rng)
    assert_same_log_priors(found, rest)


# -- fits ------------------------------------------------------------------------------------------


def exact(name, y, scale=None):
    """The minimum of squared errors plus a quadratic penalty, in closed form."""
    strength = FACTOR[name] / (1.0 if scale is None else N * 0.5 / scale)
    Z = X - X.mean(axis=0)
    matrix = strength * MATRICES[name](P)
    rhs = 2.0 * Z.T @ (y - y.mean()) / N
    location = np.full(P, LOCATION.get(name, 0.0))
    return np.linalg.solve(2.0 * Z.T @ Z / N + matrix, rhs + matrix @ location)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_gaussian_fit_with_a_quadratic_penalty_is_its_closed_form(name):
    y = tables.RESPONSES["Gaussian"][:N]
    model = population(name, "Gaussian").fit(X, y)
    for k in range(tables.N_NEURONS):
        scale = float(model.scale_[k]) if name in ABSOLUTE else None
        # within 1e-6 standard errors of about 0.1; a dispersion that is estimated settles to 1e-7
        np.testing.assert_allclose(model.coef_[:, k], exact(name, y[:, k], scale), atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "singular", "absolute", "gains", "parts"])
def test_all_solvers_find_the_same_optimum_under_priors_of_ones_own(name):
    y, kind = tables.RESPONSES["Poisson"][:N], OWN[name][0]
    fits = [
        population(name, mask=MASK, solver_name=solver).fit(X, y)
        for solver in SOLVERS
        if solver in kind.allowed_solvers
    ]
    assert (fits[0].coef_[MASK == 0] == 0).all()
    for other in fits[1:]:
        # each is within 1e-6 standard errors, of at most one
        np.testing.assert_allclose(other.coef_, fits[0].coef_, atol=3e-6)


@pytest.mark.parametrize("name", ["dense", "singular", "parts"])
def test_stochastic_epochs_lower_the_distance_under_priors_of_ones_own(name):
    y, (kind, strength) = tables.RESPONSES["Poisson"][:N, 0], OWN[name]
    best = nmo.glm.GLM("Poisson", None, kind, strength).fit(X, y)
    for solver in {"SVRG", "ProxSVRG"} & set(kind.allowed_solvers):
        kwargs = {"stepsize": 0.05, "maxiter": 150, "batch_size": 4}
        model = nmo.glm.GLM("Poisson", None, kind, strength, solver, kwargs).fit(X, y)
        np.testing.assert_allclose(model.coef_, best.coef_, atol=1e-4)


@pytest.mark.parametrize("name", ["dense", "absolute", "gains", "parts"])
def test_a_population_with_a_prior_of_ones_own_is_its_neurons(name):
    y, (kind, strength) = tables.RESPONSES["Poisson"][:N], OWN[name]
    together = population(name).fit(X, y)
    alone = [nmo.glm.GLM("Poisson", None, kind, strength).fit(X, column).coef_ for column in y.T]
    np.testing.assert_allclose(together.coef_, np.stack(alone, axis=1), atol=1e-6)


@pytest.mark.parametrize("solver", ["LBFGS", "ProxNewton"])
def test_classes_share_nothing_under_a_dense_precision(solver):
    """Two classes under strength s are Bernoulli under s / 2, whatever the precision."""
    kind, strength = OWN["singular"]
    y = tables.RESPONSES["Bernoulli"][:N, 0]
    two = nmo.glm.ClassifierGLM(2, None, kind, strength, solver).fit(X, y.astype(int))
    one = nmo.glm.GLM("Bernoulli", None, kind, strength / 2).fit(X, y)
    np.testing.assert_allclose(two.coef_.sum(axis=1), 0.0, atol=1e-7)
    np.testing.assert_allclose(two.coef_[:, 1] - two.coef_[:, 0], one.coef_, atol=3e-6)


def test_a_kink_and_a_dense_precision_go_together_for_classes():
    kind, strength = OWN["parts"]
    fits = [
        nmo.glm.ClassifierGLM(3, None, kind, strength, solver).fit(X, tables.LABELS[:N, 0]).coef_
        for solver in ("ProximalGradient", "ProxNewton")
    ]
    # neither loss nor prior sees a shift of these coefficients that is common to features and classes
    fits = [np.vstack([coef[:1], coef[1:] - coef[1:].mean()]) for coef in fits]
    np.testing.assert_allclose(*fits, atol=3e-6)
    np.testing.assert_allclose(fits[0][1:].sum(axis=1), 0.0, atol=3e-6)


def test_a_huge_strength_of_differences_leaves_a_polynomial():
    kind = OWN["singular"][0]
    model = nmo.glm.GLM("Gaussian", None, kind, 1e8).fit(X, tables.RESPONSES["Gaussian"][:N, 0])
    lines = np.vander(np.arange(P), 2)
    expected = np.linalg.lstsq(
        np.column_stack([X @ lines, np.ones(N)]), tables.RESPONSES["Gaussian"][:N, 0], rcond=None
    )[0]
    np.testing.assert_allclose(model.coef_, lines @ expected[:2], atol=1e-5)


def test_every_solver_says_whether_its_step_is_fixed():
    class Silent(nmo.solvers.Solver):
        """A solver that has no such argument."""

        init = step = resume = None

    assert Silent.stepsize is None
    for name in nmo.solvers.list_available_algorithms():
        assert hasattr(nmo.solvers.make_solver(name, {}), "stepsize")


@pytest.mark.parametrize("method", ["nuts", "laplace"])
def test_draws_under_a_singular_precision_are_those_of_the_exact_posterior(method):
    (kind, strength), y = OWN["singular"], tables.RESPONSES["Gaussian"][:N, 0]
    model = nmo.glm.GLM("Gaussian", None, kind, strength)
    how = {"num_samples": 300, "num_chains": 2, "scale": "plugin", "progress_bar": False}
    model.sample_posterior(X, y, method=method, random_key=3, **how)
    scale, Z = float(np.squeeze(model.scale_)), X - X.mean(axis=0)
    precision = (Z.T @ Z + 0.5 * N * strength * differences(P, 2)) / scale
    drawn = model.posterior_["posterior"]["coef"].values.reshape(-1, P)[::3]
    # all but independent, and uncorrelated once whitened: eight tests in all, at a level of 1e-3
    for z in ((drawn - exact("singular", y)) @ np.linalg.cholesky(precision)).T:
        assert stats.kstest(z, stats.norm.cdf).pvalue > 1e-4


def test_classes_shift_together_around_the_location_of_their_prior():
    """A shift that the softmax does not see has its prior for its posterior: around three times 0.2."""
    kind, strength = OWN["located"]
    model = nmo.glm.ClassifierGLM(3, None, kind, strength)
    how = {"method": "laplace", "num_samples": 100, "progress_bar": False}
    model.sample_posterior(X, tables.LABELS[:N, 0], **how)
    np.testing.assert_allclose(model.coef_.sum(axis=1), 0.6, atol=1e-5)
    shift = model.posterior_["posterior"]["coef"].values.sum(axis=-1).reshape(400, P)
    z = (shift - 0.6) @ np.linalg.cholesky(N * strength * full_rank(P) / 3.0)
    for each in z.T:
        assert stats.kstest(each, stats.norm.cdf).pvalue > 1e-4


# -- propriety and the report ----------------------------------------------------------------------


def test_directions_that_neither_prior_nor_data_know_are_named():
    kind, strength = OWN["singular"]
    flat = X - X @ np.ones((P, 1)) / P  # rows sum to zero: the mean coefficient is not known
    model = nmo.glm.GLM("Poisson", None, kind, strength)
    with pytest.raises(ValueError, match="improper: features a combination of .* dependent"):
        model.sample_posterior(flat, tables.RESPONSES["Poisson"][:N, 0], progress_bar=False)


@pytest.mark.parametrize("kind", ["Lasso", "parts"])
def test_changes_common_to_all_classes_need_a_prior(kind):
    """Where a prior singles out a class somewhere, coefficients that it leaves free may shift all together."""
    kind, strength = (
        OWN["parts"]
        if kind == "parts"
        else (kind, np.array([0.1, 0.0, 0.1, 0.1])[:, None] * np.ones(3))
    )
    model = nmo.glm.ClassifierGLM(3, None, kind, strength)
    with pytest.raises(ValueError, match="improper.*same for all classes"):
        model.sample_posterior(X, tables.LABELS[:N, 0], progress_bar=False)


def test_numbers_of_a_prior_are_those_of_its_matrix(rng):
    matrix, root = full_rank(P), rng.normal(size=(P, P))
    used = np.array([[1, 1, 0, 1]], bool)
    index = np.flatnonzero(used[0])
    inner = matrix[np.ix_(index, index)]
    covariance = np.linalg.inv(root @ root.T + matrix)
    found = prior.numbers(matrix[None], covariance[None], used)
    np.testing.assert_allclose(
        found.sd[0, index], np.sqrt(np.diag(np.linalg.inv(inner))), rtol=1e-12
    )
    assert np.isnan(found.sd[0, 2])
    assert not found.flat.any()
    flat = prior.numbers(differences(P, 1)[None], covariance[None], np.ones((1, P), bool))
    assert flat.flat.all()
    assert np.isnan(flat.sd).all()
    diagonal = np.arange(4.0)[None]
    both = [prior.numbers(d, covariance[None], used) for d in (diagonal, np.diag(diagonal[0])[None])]  # fmt: skip
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
