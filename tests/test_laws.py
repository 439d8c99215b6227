"""Laws of fitted models: what must not matter does not, and what is one thing said twice gives one answer.

Both sides of a law are fits, each within 1e-6 standard errors of its optimum, which for 200 rows is 1e-7 in
units of the coefficients; where both go through the same numbers they agree better than that.
"""

import jax
import numpy as np
import pytest
import tables
from reference import Problem, fitted

import bayesglm as nmo
from bayesglm.rows import _kernels

X, N, P, NEURONS, CLASSES = (
    tables.X,
    tables.N_SAMPLES,
    tables.N_FEATURES,
    tables.N_NEURONS,
    tables.N_CLASSES,
)
COUNTS, LABELS = tables.RESPONSES["Poisson"], tables.LABELS
KINDS = tuple(tables.REGULARIZERS)
# Ten times what two fits may differ by in units of the coefficients: the promise of test_stationarity.
ATOL = 1e-6


def population(kind="UnRegularized", family="Poisson", strength=None, mask=None):
    strength = tables.REGULARIZERS[kind] if strength is None else strength
    return nmo.glm.PopulationGLM(family, None, kind, strength, feature_mask=mask)


def single(kind="UnRegularized", family="Poisson", strength=None):
    strength = tables.REGULARIZERS[kind] if strength is None else strength
    return nmo.glm.GLM(family, None, kind, strength)


def classifier(kind="Ridge", strength=None, n_classes=CLASSES):
    strength = tables.REGULARIZERS[kind] if strength is None else strength
    return nmo.glm.ClassifierGLM(n_classes, None, kind, strength)


def classifiers(kind="Ridge", strength=None, mask=None):
    strength = tables.REGULARIZERS[kind] if strength is None else strength
    return nmo.glm.ClassifierPopulationGLM(CLASSES, None, kind, strength, feature_mask=mask)


def estimates(model):
    """Coefficients, intercepts, dispersion and degrees of freedom."""
    return (*fitted(model), np.asarray(model.scale_), np.asarray(model.dof_resid_))


def assert_equal(one, other, atol=ATOL):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol)


def column(all_estimates, k):
    """Estimates of one neuron of a population, in the shapes of a model of one neuron."""
    coef, intercept, scale, dof = all_estimates
    return coef[:, k], np.atleast_1d(intercept[k]), np.atleast_1d(scale[k]), np.reshape(dof[k], ())


def squeeze(one_neuron):
    """The same shapes for the estimates of a single model."""
    coef, intercept, scale, dof = one_neuron
    return coef, intercept, np.atleast_1d(scale), np.reshape(dof, ())


# -- what is fitted together is fitted alone --------------------------------------------------------


FAMILY_KINDS = [("Poisson", kind) for kind in KINDS] + [
    ("Gaussian", "UnRegularized"),
    ("Gaussian", "Lasso"),
]


@pytest.mark.parametrize(("family", "kind"), FAMILY_KINDS)
def test_a_population_is_its_neurons_fitted_alone(family, kind):
    y = tables.RESPONSES[family]
    together = estimates(population(kind, family).fit(X, y))
    for k in range(NEURONS):
        assert_equal(column(together, k), squeeze(estimates(single(kind, family).fit(X, y[:, k]))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_of_classifiers_is_its_members_fitted_alone(kind):
    together = estimates(classifiers(kind).fit(X, LABELS))
    for k in range(NEURONS):
        assert_equal(column(together, k), squeeze(estimates(classifier(kind).fit(X, LABELS[:, k]))))


@pytest.mark.parametrize("kind", KINDS)
def test_neurons_have_no_order(kind):
    order = [2, 0, 1]
    plain = estimates(population(kind).fit(X, COUNTS))
    permuted = estimates(population(kind).fit(X, COUNTS[:, order]))
    assert_equal([a[..., order] for a in plain], permuted)


@pytest.mark.parametrize("kind", ["UnRegularized", "Lasso"])
def test_a_silent_neuron_changes_nothing_for_the_others(kind):
    plain = estimates(population(kind).fit(X, COUNTS))
    with_silence = np.column_stack([COUNTS[:, :1], np.zeros(N), COUNTS[:, 1:]])
    with pytest.warns(RuntimeWarning, match="Neurons 1\\b.*could not be fitted"):
        model = population(kind).fit(X, with_silence)
    found = estimates(model)
    assert_equal([np.delete(a, 1, axis=-1) for a in found], plain)
    assert np.isnan(found[0][:, 1]).all()
    assert np.isnan(found[1][1])


# -- features ---------------------------------------------------------------------------------------


#: One group of all features for each neuron; without it, a tree has one for each leaf.
GROUPS = np.repeat(np.eye(NEURONS)[:, None, :], P, axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["Poisson", "Gaussian"])
def test_a_tree_of_features_is_its_concatenation(family, kind):
    y = tables.RESPONSES[family]
    tree = {"a": X[:, :1], "b": {"c": X[:, 1:3], "d": X[:, 3:]}}
    flat = population(kind, family).fit(X, y)
    strength = tables.REGULARIZERS[kind]
    leaves = np.split(GROUPS, [1, 3], axis=1)
    groups = nmo.regularizer.GroupLasso({"a": leaves[0], "b": {"c": leaves[1], "d": leaves[2]}})
    penalty = groups if kind == "GroupLasso" else kind
    split = nmo.glm.PopulationGLM(family, None, penalty, strength).fit(tree, y)
    assert jax.tree.structure(split.coef_) == jax.tree.structure(tree)
    assert_equal(estimates(split), estimates(flat))
    np.testing.assert_allclose(split.predict(tree), flat.predict(X), rtol=1e-6)
    np.testing.assert_allclose(split.score(tree, y), flat.score(X, y), rtol=1e-6)


#: Each neuron lacks one feature, so that what is left has one shape.
MASK = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [1, 0, 1]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_feature_is_a_deleted_one(kind):
    family = "Gaussian"
    y = tables.RESPONSES[family]
    found = estimates(population(kind, family, mask=MASK).fit(X, y))
    for k in range(NEURONS):
        used = MASK[:, k].astype(bool)
        alone = single(kind, family).fit(X[:, used], y[:, k])
        assert (found[0][~used, k] == 0).all()
        coef, *rest = column(found, k)
        assert_equal((coef[used], *rest), squeeze(estimates(alone)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_masked_for_all_classes_is_a_deleted_one(kind):
    mask = np.repeat(MASK[:, :, None], CLASSES, axis=2)
    found = estimates(classifiers(kind, mask=mask).fit(X, LABELS))
    for k in range(NEURONS):
        used = MASK[:, k].astype(bool)
        alone = classifier(kind).fit(X[:, used], LABELS[:, k])
        assert (found[0][~used, k] == 0).all()
        coef, *rest = column(found, k)
        assert_equal((coef[used], *rest), squeeze(estimates(alone)))


def test_a_class_masked_everywhere_but_one_sets_the_reference():
    """Without a penalty, classes without coefficients of their own are a reference, not a constraint."""
    mask = np.ones((P, NEURONS, CLASSES), dtype=int)
    mask[:, :, 0] = 0
    coef, intercept = fitted(classifiers("UnRegularized", mask=mask).fit(X, LABELS))
    free, free_intercept = fitted(classifiers("UnRegularized").fit(X, LABELS))
    np.testing.assert_allclose(coef, free - free[..., :1], rtol=0, atol=ATOL)
    shift = intercept - free_intercept
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), rtol=0, atol=ATOL)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e4])
@pytest.mark.parametrize("family", ["Poisson", "Gaussian", "Bernoulli"])
def test_units_of_features_are_those_of_coefficients(family, scale):
    y, scales = tables.RESPONSES[family], np.array([1.0, scale, 1.0, 1 / scale])
    coef, intercept = fitted(population(family=family).fit(X, y))
    other, other_intercept = fitted(population(family=family).fit(X * scales, y))
    np.testing.assert_allclose(other * scales[:, None], coef, rtol=0, atol=ATOL)
    np.testing.assert_allclose(other_intercept, intercept, rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
def test_the_origin_of_features_is_the_intercepts_business(kind):
    origin = np.array([3.0, -50.0, 0.0, 1000.0])
    coef, intercept = fitted(population(kind).fit(X, COUNTS))
    other, other_intercept = fitted(population(kind).fit(X + origin, COUNTS))
    np.testing.assert_allclose(other, coef, rtol=0, atol=ATOL)
    # An error of ATOL in a coefficient is one of 1000 ATOL in this intercept, were they not correlated.
    np.testing.assert_allclose(other_intercept + origin @ other, intercept, rtol=0, atol=ATOL)


def test_features_that_are_sums_of_others_leave_predictions_as_they_are():
    doubled = np.column_stack([X, X @ [1.0, 2.0, 0.0, 0.0], 3.0 * X[:, 2]])
    plain = population().fit(X, COUNTS)
    model = population().fit(doubled, COUNTS)
    with jax.enable_x64(True):
        np.testing.assert_allclose(model.predict(doubled), plain.predict(X), rtol=0, atol=ATOL * 10)
    # what the rank leaves free is not counted twice
    np.testing.assert_array_equal(model.dof_resid_, plain.dof_resid_)


# -- rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "kind"), FAMILY_KINDS)
def test_a_weight_of_two_is_a_row_twice(family, kind, rng):
    y, weight = tables.RESPONSES[family], rng.permutation(np.repeat([0, 1, 2], [50, 100, 50]))
    weighted = population(kind, family).fit(X, y, sample_weight=weight)
    repeated = population(kind, family).fit(
        np.repeat(X, weight, axis=0), np.repeat(y, weight, axis=0)
    )
    assert_equal(estimates(weighted), estimates(repeated))


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_is_a_label_twice(kind, rng):
    weight = rng.permutation(np.repeat([0, 1, 2], [50, 100, 50]))
    weighted = classifier(kind).fit(X, LABELS[:, 0], sample_weight=weight)
    repeated = classifier(kind).fit(np.repeat(X, weight, axis=0), np.repeat(LABELS[:, 0], weight))
    assert_equal(estimates(weighted), estimates(repeated))


def test_weights_of_its_own_make_a_neuron_no_different():
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2.0, size=(N, NEURONS))
    together = estimates(population("Lasso").fit(X, COUNTS, sample_weight=weight))
    for k in range(NEURONS):
        alone = single("Lasso").fit(X, COUNTS[:, k], sample_weight=weight[:, k])
        assert_equal(column(together, k), squeeze(estimates(alone)))


def test_an_offset_is_a_feature_with_a_fixed_coefficient():
    """With a coefficient fixed where the full fit has it, the rest is as in the full fit."""
    coef, intercept = fitted(population().fit(X, COUNTS))
    for j in (0, 3):
        rest = [i for i in range(P) if i != j]
        offset = X[:, [j]] * coef[j]
        other = fitted(population().fit(X[:, rest], COUNTS, offset=offset))
        np.testing.assert_allclose(other[0], coef[rest], rtol=0, atol=ATOL)
        np.testing.assert_allclose(other[1], intercept, rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_offset_is_taken_up_by_the_intercept(kind):
    coef, intercept = fitted(population(kind).fit(X, COUNTS))
    other, other_intercept = fitted(population(kind).fit(X, COUNTS, offset=np.full(N, 1.5)))
    np.testing.assert_allclose(other, coef, rtol=0, atol=ATOL)
    np.testing.assert_allclose(other_intercept + 1.5, intercept, rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", ["UnRegularized", "Lasso"])
def test_a_row_with_a_missing_feature_is_a_deleted_row(kind):
    holes = X.copy()
    holes[::11, 1], holes[5, 3] = np.nan, np.inf
    kept = np.isfinite(holes).all(axis=1)
    assert kept.sum() == N - 20
    found = population(kind, "Gaussian").fit(holes, tables.RESPONSES["Gaussian"])
    clean = population(kind, "Gaussian").fit(X[kept], tables.RESPONSES["Gaussian"][kept])
    assert_equal(estimates(found), estimates(clean))


@pytest.mark.parametrize("kind", ["UnRegularized", "Lasso"])
def test_a_missing_response_is_a_deleted_row_for_that_neuron(kind):
    y = tables.RESPONSES["Gaussian"].copy()
    y[::10, 0], y[3:23, 1], y[-20:, 2] = np.nan, np.nan, np.nan
    found = estimates(population(kind, "Gaussian").fit(X, y))
    for k in range(NEURONS):
        kept = np.isfinite(y[:, k])
        alone = single(kind, "Gaussian").fit(X[kept], y[kept, k])
        assert_equal(column(found, k), squeeze(estimates(alone)))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_no_order(kind, rng):
    order = rng.permutation(N)
    plain = estimates(population(kind).fit(X, COUNTS))
    assert_equal(plain, estimates(population(kind).fit(X[order], COUNTS[order])))


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_layout_of_arrays_does_not_matter(order):
    plain = estimates(population("Ridge").fit(X, COUNTS))
    strided = np.zeros((2 * N, 2 * P), order=order)[::2, ::2]
    strided[:] = X
    assert_equal(plain, estimates(population("Ridge").fit(strided, np.asfortranarray(COUNTS))))


def test_reading_rows_in_blocks_changes_nothing(monkeypatch, rng):
    """Against Newton's method, which reads all at once.

    Blocks have 64 rows at least, and the last of 203 rows is not full. This number of rows is found nowhere else, so
    that no program without blocks is at hand, and none with blocks stays behind for others.
    """
    monkeypatch.setattr(_kernels, "_BLOCK_BYTES", 1)
    n = 203
    X = np.column_stack([rng.normal(size=(n, 2)), rng.normal(size=(n, 2)) * 10.0])
    y = rng.poisson(np.exp(0.5 + 0.3 * X[:, :2]))
    offset, weight = rng.normal(size=n), rng.uniform(0.5, 2.0, size=n)
    for kind in ("UnRegularized", "Lasso"):
        coef, intercept = fitted(population(kind).fit(X, y, offset=offset, sample_weight=weight))
        for k in range(2):
            problem = Problem(
                "Poisson",
                "exp",
                X,
                y[:, k],
                kind,
                tables.REGULARIZERS[kind],
                weight=weight,
                offset=offset,
            )
            found = problem.theta(coef[:, k], intercept[k])
            np.testing.assert_allclose(found, problem.stationary_point(found), rtol=0, atol=ATOL)
    labels = np.minimum(y[:, 0], 2)
    problem = Problem("Categorical", "softmax", X, labels, "Ridge", 0.1, CLASSES, weight=weight)
    found = problem.theta(*fitted(classifier("Ridge").fit(X, labels, sample_weight=weight)))
    np.testing.assert_allclose(found, problem.stationary_point(found), rtol=0, atol=ATOL)


# -- penalties --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "kind"), [(0.0, "Ridge"), (1.0, "Lasso")])
@pytest.mark.parametrize("face", ["population", "classifier"])
def test_the_ends_of_elastic_net_are_ridge_and_lasso(face, ratio, kind):
    def fit(*settings):
        if face == "population":
            return fitted(population(settings[0], strength=settings[1]).fit(X, COUNTS))
        return fitted(classifier(*settings).fit(X, LABELS[:, 0]))

    assert_equal(fit("ElasticNet", (0.05, ratio)), fit(kind, 0.05))


@pytest.mark.parametrize("kind", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
def test_a_strength_of_zero_is_no_penalty(kind):
    zero = (0.0, 0.5) if kind == "ElasticNet" else 0.0
    assert_equal(
        fitted(population(kind, strength=zero).fit(X, COUNTS)), fitted(population().fit(X, COUNTS))
    )


def test_groups_of_one_feature_are_a_lasso():
    groups = np.eye(P * NEURONS).reshape(P * NEURONS, P, NEURONS)
    model = nmo.glm.PopulationGLM("Poisson", None, nmo.regularizer.GroupLasso(groups), 0.05).fit(
        X, COUNTS
    )
    assert_equal(fitted(model), fitted(population("Lasso", strength=0.05).fit(X, COUNTS)))


def test_groups_that_span_neurons_are_solved_jointly():
    """One group per feature over all neurons, which then are zero together."""
    groups = np.repeat(np.eye(P)[:, :, None], NEURONS, axis=2)
    strength = 0.25
    model = nmo.glm.PopulationGLM(
        "Poisson", None, nmo.regularizer.GroupLasso(groups), strength
    ).fit(X, COUNTS)
    coef, intercept = fitted(model)
    problems = [Problem("Poisson", "exp", X, COUNTS[:, k]) for k in range(NEURONS)]
    gradient = np.column_stack(
        [
            p.loss_derivatives(p.theta(coef[:, k], intercept[k]))[0][:, 0]
            for k, p in enumerate(problems)
        ]
    )
    norms, threshold = np.linalg.norm(coef, axis=1), strength * np.sqrt(NEURONS)
    alive = norms > 0
    assert 0 < alive.sum() < P  # else the test is empty
    # Curvatures are of order one here: residuals are errors of the coefficients.
    np.testing.assert_allclose(gradient[-1], 0, atol=ATOL)
    pull = threshold * coef[alive] / norms[alive, None]
    np.testing.assert_allclose(gradient[:-1][alive], -pull, rtol=0, atol=ATOL)
    assert (np.linalg.norm(gradient[:-1][~alive], axis=1) <= threshold).all()


def test_more_features_than_rows_are_solved_with_a_ridge():
    """Against the same problem in the space of the rows (the representer theorem)."""
    rng = np.random.default_rng(5)
    n, p, strength = 30, 50, 0.3
    X, y = rng.normal(size=(n, p)), rng.normal(size=n)
    coef, intercept = fitted(single("Ridge", "Gaussian", strength).fit(X, y))
    Z = X - X.mean(axis=0)
    dual = np.linalg.solve(Z @ Z.T + 0.5 * n * strength * np.eye(n), y - y.mean())
    np.testing.assert_allclose(coef, Z.T @ dual, rtol=0, atol=ATOL)
    np.testing.assert_allclose(intercept, y.mean() - X.mean(axis=0) @ Z.T @ dual, rtol=0, atol=ATOL)
    counts = rng.poisson(np.exp(0.3 * X[:, 0]))
    problem = Problem("Poisson", "exp", X, counts, "Ridge", strength)
    found = problem.theta(*fitted(single("Ridge", "Poisson", strength).fit(X, counts)))
    np.testing.assert_allclose(
        found, problem.stationary_point(problem.start(0.0)), rtol=0, atol=ATOL
    )


def test_more_features_than_rows_are_solved_with_a_kink():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(30, 50))
    y, strength = rng.poisson(np.exp(0.5 * X[:, 0])), 0.1
    problem = Problem("Poisson", "exp", X, y, "Lasso", strength)
    found = problem.theta(*fitted(single("Lasso", "Poisson", strength).fit(X, y)))
    np.testing.assert_allclose(found, problem.stationary_point(found), rtol=0, atol=ATOL)


def test_gaussian_without_penalty_is_least_squares():
    y = tables.RESPONSES["Gaussian"]
    coef, intercept = fitted(population(family="Gaussian").fit(X, y))
    best = np.linalg.lstsq(np.column_stack([X, np.ones(N)]), y, rcond=None)[0]
    np.testing.assert_allclose(np.vstack([coef, intercept]), best, rtol=0, atol=ATOL)


# -- classes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_classes_do_not_matter(kind):
    y = LABELS[:, 0]
    plain = estimates(classifier(kind).fit(X, y))
    # sorted names are in the order c, b, a of the indices
    named = classifier(kind).fit(X, np.array(["z", "m", "a"])[y])
    assert list(named.classes_) == ["a", "m", "z"]
    found = estimates(named)
    assert_equal(plain, (found[0][:, ::-1], found[1][::-1], *found[2:]))


#: Strength of a softmax of two classes, in units of that of the Bernoulli model with the same fit: w is shared out as
#: w / 2 and -w / 2, whose squares sum to half, and whose absolute values (and norms) to the same.
TWO_CLASSES = {"UnRegularized": 1.0, "Ridge": 2.0, "Lasso": 1.0, "GroupLasso": 1.0}


@pytest.mark.parametrize("kind", TWO_CLASSES)
def test_a_softmax_of_two_classes_is_a_bernoulli_model(kind):
    """Lasso leaves open how a coefficient is shared out between the classes, hence the difference."""
    y, strength = tables.RESPONSES["Bernoulli"][:, 0], tables.REGULARIZERS[kind]
    coef, intercept = fitted(single(kind, "Bernoulli").fit(X, y))
    strength = None if strength is None else strength * TWO_CLASSES[kind]
    model = nmo.glm.ClassifierGLM(2, None, kind, strength).fit(X, y.astype(int))
    both, intercepts = fitted(model)
    np.testing.assert_allclose(both[:, 1] - both[:, 0], coef, rtol=0, atol=ATOL)
    np.testing.assert_allclose(intercepts[1] - intercepts[0], intercept[0], rtol=0, atol=ATOL)
    if kind in tables.SMOOTH:
        np.testing.assert_allclose(both.sum(axis=1), 0, atol=ATOL)


# -- starts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_does_not_matter(kind):
    rng = np.random.default_rng(2)
    params = (rng.normal(size=(P, NEURONS)), rng.normal(size=NEURONS))
    assert_equal(
        fitted(population(kind).fit(X, COUNTS)),
        fitted(population(kind).fit(X, COUNTS, init_params=params)),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_of_a_classifier_does_not_matter(kind):
    rng = np.random.default_rng(2)
    params = (rng.normal(size=(P, CLASSES)), rng.normal(size=CLASSES))
    y = LABELS[:, 0]
    assert_equal(
        fitted(classifier(kind).fit(X, y)), fitted(classifier(kind).fit(X, y, init_params=params))
    )


def test_a_fit_repeats_itself_exactly():
    one, other = (estimates(population("Lasso").fit(X, COUNTS)) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
