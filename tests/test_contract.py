"""The contract: the penalised loss of an estimator is the negative log of its NumPyro density.

With n the sum of the weights and kappa the family's factor between loss and log-density,
``n * kappa * (loss + penalty)`` and ``-log density`` differ by a constant, for every family, link,
regularizer, mask and estimator.
"""

import jax
import jax.numpy as jnp
import numpy as np
import own_priors
import pytest
import tables
import textbook
from numpyro.infer.util import log_density

import bayesglm as nmo
from bayesglm.observation_models import NegativeBinomialObservations

# Both sides are sums of some hundred terms, and their change is of the order of the largest of these:
# rounding leaves about 1e-13 of it.
RTOL = 1e-10

# The shapes of the tables, so that the programs of other laws serve these too.
N_ROWS, N_NEURONS, N_CLASSES = tables.N_SAMPLES, tables.N_NEURONS, tables.N_CLASSES
WIDTHS = {"a": 3, "b": 1}
N_FEATURES = sum(WIDTHS.values())
LEAVES = [slice(0, 3), slice(3, 4)]
NB_SCALE = 0.6
#: Dispersions of the neurons: none is 1, so that no factor can be forgotten.
SCALES = {
    "Gaussian": np.array([0.4, 1.7, 2.9]),
    "Gamma": np.array([0.3, 0.8, 2.2]),
    "NegativeBinomial": np.full(3, NB_SCALE),  # enters the loss itself, from the observation model
}
KAPPA = {"Gaussian": lambda phi: 0.5 / phi, "Gamma": lambda phi: 1.0 / phi}

PAIRS = [(family, link) for family, names in tables.FAMILY_LINKS.items() for link in names]
MASKS = {"none": None, "some": np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]])}


def family(name):
    return NegativeBinomialObservations(NB_SCALE) if name == "NegativeBinomial" else name


def design(rng):
    return rng.uniform(-1, 1, size=(N_ROWS, N_FEATURES))


def draw_theta(rng, link, shape, used=1):
    """Coefficients and intercepts; for 1/x the predictor stays positive: features are below one."""
    reach = 0.4 if link == "one_over_x" else 1.5
    coef = rng.uniform(-reach, reach, size=shape) * used
    return coef, (2.0 if link == "one_over_x" else 0.0) + rng.uniform(-0.4, 0.4, size=shape[1:])


def response(name, rng, shape):
    return {
        "Poisson": rng.poisson(2.0, shape).astype(float),
        "Gamma": rng.gamma(2.0, 1.0, shape),
        "Gaussian": rng.normal(size=shape),
        "Bernoulli": rng.integers(0, 2, shape).astype(float),
        "Binomial": rng.integers(1, 4, (*np.ravel(shape), 2)).astype(float),
        "NegativeBinomial": rng.poisson(3.0, shape).astype(float),
    }[name]


def log_joint(model, coef, intercept):
    with jax.enable_x64(True):
        params = {"coef": jnp.asarray(coef), "intercept": jnp.asarray(intercept)}
        return float(log_density(model, (), {}, params)[0])


def neuron_loss(estimator, coef, intercept, X, y):
    """Documented loss of one neuron (or one subject of a classifier)."""
    with jax.enable_x64(True):
        return float(estimator.compute_loss((coef, np.atleast_1d(intercept)), X, y))


def split(coef):
    return {key: coef[rows] for key, rows in zip(WIDTHS, LEAVES, strict=True)}


def assert_contract(change_of_loss, change_of_log_joint):
    assert abs(change_of_loss) > 1e-3  # the two points do differ
    np.testing.assert_allclose(change_of_loss, -change_of_log_joint, rtol=RTOL)


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_penalised_loss_is_the_negative_log_density_of_one_neuron(name, link, kind, rng):
    X, y = design(rng), response(name, rng, N_ROWS)
    strength, phi = tables.REGULARIZERS[kind], SCALES.get(name, [1.0])[0]
    model = nmo.glm.GLM(family(name), link, kind, strength)
    joint = model.numpyro_model(X, y, scale=phi)

    def loss(coef, intercept):
        penalty = textbook.penalty(kind, strength, coef)
        return neuron_loss(model, coef, intercept, X, y) + penalty

    first, second = (draw_theta(rng, link, (N_FEATURES,)) for _ in range(2))
    weight = N_ROWS * KAPPA.get(name, lambda phi: 1.0)(phi)
    assert_contract(
        weight * (loss(*first) - loss(*second)),
        log_joint(joint, *first) - log_joint(joint, *second),
    )


@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize("kind", tables.REGULARIZERS)
@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_penalised_losses_of_a_population_add_up_to_its_negative_log_density(
    name, link, kind, masked, rng
):
    X, y = design(rng), response(name, rng, (N_ROWS, N_NEURONS))
    strength, phi = tables.REGULARIZERS[kind], SCALES.get(name, np.ones(N_NEURONS))
    model = nmo.glm.PopulationGLM(family(name), link, kind, strength, feature_mask=MASKS[masked])
    single = nmo.glm.GLM(family(name), link)
    joint = model.numpyro_model(X, y, scale=phi)
    used = np.ones((N_FEATURES, N_NEURONS)) if masked == "none" else MASKS[masked]
    weight = N_ROWS * KAPPA.get(name, np.ones_like)(phi)

    def loss(coef, intercept):
        return sum(
            weight[k]
            * (
                neuron_loss(single, coef[:, k], intercept[k], X, y[:, k])
                + textbook.penalty(kind, strength, coef[:, k], used[:, k])
            )
            for k in range(N_NEURONS)
        )

    first, second = (draw_theta(rng, link, used.shape, used) for _ in range(2))
    assert_contract(
        loss(*first) - loss(*second), log_joint(joint, *first) - log_joint(joint, *second)
    )


def centred(array):
    return array - array.mean(axis=-1, keepdims=True)


def draw_classifier_theta(rng, kind, used):
    """Parameters on which the model is defined.

    Intercepts sum to zero, and so do coefficients where only their differences count.
    """
    coef, intercept = rng.normal(size=used.shape) * used, centred(rng.normal(size=used.shape[1:]))
    same_for_all_classes = (used == used[..., :1]).all()
    if kind in tables.SMOOTH and same_for_all_classes:
        coef = centred(coef)
    return coef, intercept


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_penalised_loss_is_the_negative_log_density_of_a_classifier(kind, rng):
    X, y = design(rng), rng.permutation(np.arange(N_ROWS) % N_CLASSES)
    strength, used = tables.REGULARIZERS[kind], np.ones((N_FEATURES, N_CLASSES))
    model = nmo.glm.ClassifierGLM(N_CLASSES, None, kind, strength).set_classes(y)
    joint = model.numpyro_model(X, y)

    def loss(coef, intercept):
        return neuron_loss(model, coef, intercept, X, y) + textbook.penalty(
            kind, strength, coef, used
        )

    first, second = (draw_classifier_theta(rng, kind, used) for _ in range(2))
    assert_contract(
        N_ROWS * (loss(*first) - loss(*second)),
        log_joint(joint, *first) - log_joint(joint, *second),
    )


CLASS_MASKS = {
    "none": np.ones((N_FEATURES, 2, N_CLASSES), dtype=int),
    "neurons": np.array([[1, 1], [0, 1], [1, 0], [1, 1]])[..., None]
    * np.ones(N_CLASSES, dtype=int),
    "classes": np.array(
        [
            [[1, 1, 0], [1, 1, 1]],
            [[1, 0, 1], [0, 1, 1]],
            [[1, 1, 1], [1, 1, 1]],
            [[1, 1, 1], [1, 0, 1]],
        ]
    ),
}


@pytest.mark.parametrize("masked", CLASS_MASKS)
@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_penalised_losses_of_a_classifier_population_add_up_to_its_negative_log_density(
    kind, masked, rng
):
    X = design(rng)
    y = np.stack([rng.permutation(np.arange(N_ROWS) % N_CLASSES) for _ in range(2)], axis=1)
    strength, used = tables.REGULARIZERS[kind], CLASS_MASKS[masked]
    feature_mask = None if masked == "none" else used
    model = nmo.glm.ClassifierPopulationGLM(
        N_CLASSES, None, kind, strength, feature_mask=feature_mask
    ).set_classes(y)
    single = nmo.glm.ClassifierGLM(N_CLASSES).set_classes(y)
    joint = model.numpyro_model(X, y)

    def loss(coef, intercept):
        return sum(
            neuron_loss(single, coef[:, k], intercept[k], X, y[:, k])
            + textbook.penalty(kind, strength, coef[:, k], used[:, k])
            for k in range(2)
        )

    first, second = (draw_classifier_theta(rng, kind, used) for _ in range(2))
    assert_contract(
        N_ROWS * (loss(*first) - loss(*second)),
        log_joint(joint, *first) - log_joint(joint, *second),
    )


def strengths_per_coefficient(rng, kind):
    """Strengths as a dict that mirrors the features, and the same as an array; one leaf is a number."""
    by_leaf = {"a": rng.uniform(0.05, 0.2, size=3), "b": 0.07}
    flat = np.concatenate([by_leaf["a"], [0.07]])
    if kind == "ElasticNet":
        return (by_leaf, {"a": 0.3, "b": 0.9}), (flat, np.array([0.3, 0.3, 0.3, 0.9]))
    return by_leaf, flat


@pytest.mark.parametrize("kind", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
def test_contract_holds_for_a_tree_of_features_with_strengths_of_their_own(kind, rng):
    X, y = design(rng), response("Gaussian", rng, N_ROWS)
    tree = split(X.T)
    tree = {key: leaf.T for key, leaf in tree.items()}
    given, flat = (0.1, 0.1) if kind == "GroupLasso" else strengths_per_coefficient(rng, kind)
    model = nmo.glm.GLM("Gaussian", regularizer=kind, regularizer_strength=given)
    joint = model.numpyro_model(tree, y, scale=0.4)

    def loss(coef, intercept):
        penalty = textbook.penalty(kind, flat, coef, leaves=LEAVES)
        return neuron_loss(model, split(coef), intercept, tree, y) + penalty

    first, second = (draw_theta(rng, "identity", (N_FEATURES,)) for _ in range(2))
    assert_contract(
        N_ROWS / 0.8 * (loss(*first) - loss(*second)),
        log_joint(joint, *first) - log_joint(joint, *second),
    )


@pytest.mark.parametrize("kind", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
@pytest.mark.parametrize(("name", "link"), [("Poisson", "exp"), ("Gamma", "softplus")])
def test_weights_count_rows_and_an_offset_is_a_feature_with_a_fixed_coefficient(
    name, link, kind, rng
):
    X, y, offset = design(rng), response(name, rng, N_ROWS), rng.normal(size=N_ROWS)
    weight = np.resize([0, 1, 2, 1], N_ROWS)  # as many repeated rows as rows
    strength, phi = tables.REGULARIZERS[kind], SCALES.get(name, [1.0])[0]
    model = nmo.glm.GLM(family(name), link, kind, strength)
    joint = model.numpyro_model(X, y, scale=phi, sample_weight=weight, offset=offset)
    with_offset = np.repeat(np.column_stack([X, offset]), weight, axis=0)
    repeated = np.repeat(y, weight)

    def loss(coef, intercept):
        penalty = textbook.penalty(kind, strength, coef)
        return neuron_loss(model, np.append(coef, 1.0), intercept, with_offset, repeated) + penalty

    first, second = (draw_theta(rng, link, (N_FEATURES,)) for _ in range(2))
    weighted = weight.sum() * KAPPA.get(name, lambda phi: 1.0)(phi)
    assert_contract(
        weighted * (loss(*first) - loss(*second)),
        log_joint(joint, *first) - log_joint(joint, *second),
    )


@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_rows_with_missing_values_do_not_count_for_their_neuron(kind, rng):
    X, y = design(rng), response("Gaussian", rng, (N_ROWS, N_NEURONS))
    X[4, 1], y[7, 0], y[8, 1], y[9, 1] = np.inf, np.nan, np.nan, np.nan
    strength, phi = tables.REGULARIZERS[kind], SCALES["Gaussian"]
    weight = rng.uniform(0.5, 2.0, size=y.shape)
    model = nmo.glm.PopulationGLM("Gaussian", regularizer=kind, regularizer_strength=strength)
    joint = model.numpyro_model(X, y, scale=phi, sample_weight=weight)

    def neuron(k, coef, intercept):
        valid = np.isfinite(X).all(axis=1) & np.isfinite(y[:, k])
        residual = y[valid, k] - X[valid] @ coef - intercept
        n = weight[valid, k].sum()
        penalty = textbook.penalty(kind, strength, coef)
        return 0.5 / phi[k] * (weight[valid, k] @ residual**2 + n * penalty)

    def loss(coef, intercept):
        return sum(neuron(k, coef[:, k], intercept[k]) for k in range(N_NEURONS))

    first, second = (draw_theta(rng, "identity", (N_FEATURES, N_NEURONS)) for _ in range(2))
    assert_contract(
        loss(*first) - loss(*second), log_joint(joint, *first) - log_joint(joint, *second)
    )


def test_a_row_without_weight_may_lie_outside_the_domain_of_the_link(rng):
    # with 1/x the predictor of a row without weight may be negative, where the Gamma density has no value
    X, y = 1.0 + rng.uniform(size=(N_ROWS, 1)), response("Gamma", rng, N_ROWS)
    spoiled, more = np.append(X, [[np.nan], [0.0]], axis=0), np.append(y, [1.0, 1.0])
    weight = np.append(np.ones(N_ROWS + 1), 0.0)
    model = nmo.glm.GLM("Gamma")
    points = [(np.array([slope]), -0.5) for slope in (1.0, 2.0)]
    change = [
        np.subtract(*(log_joint(joint, *point) for point in points))
        for joint in (
            model.numpyro_model(X, y, scale=0.7),
            model.numpyro_model(spoiled, more, scale=0.7, sample_weight=weight),
        )
    ]
    np.testing.assert_allclose(*change, rtol=RTOL)


GROUPS = {
    "across leaves": (np.array([[1, 0, 0, 1], [0, 1, 1, 0]]), (N_FEATURES,)),
    "with features outside": (np.array([[1, 0, 0, 1]]), (N_FEATURES,)),
    "across neurons": (
        np.array([[[1, 1, 1]] * 3 + [[0, 0, 0]], [[0, 0, 0]] * 3 + [[1, 0, 1]]]),
        (N_FEATURES, N_NEURONS),
    ),
}


@pytest.mark.parametrize("groups", GROUPS)
def test_contract_holds_for_groups_of_your_own(groups, rng):
    members, shape = GROUPS[groups]
    strength = rng.uniform(0.05, 0.2, size=len(members))
    X, y = design(rng), response("Poisson", rng, (N_ROWS, *shape[1:]))
    tree, mask = {"a": X[:, :3], "b": X[:, 3:]}, {"a": members[:, :3], "b": members[:, 3:]}
    kind = nmo.glm.GLM if len(shape) == 1 else nmo.glm.PopulationGLM
    model = kind(regularizer=nmo.regularizer.GroupLasso(mask=mask), regularizer_strength=strength)
    joint = model.numpyro_model(tree, y)

    def loss(coef, intercept):
        penalty = sum(
            s * np.sqrt(group.sum()) * np.linalg.norm(coef[group == 1])
            for s, group in zip(strength, members, strict=True)
        )
        return neuron_loss(model, split(coef), intercept, tree, y) + penalty

    first, second = (draw_theta(rng, "exp", shape) for _ in range(2))
    assert_contract(
        N_ROWS * (loss(*first) - loss(*second)),
        log_joint(joint, *first) - log_joint(joint, *second),
    )


@pytest.mark.parametrize("kind", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
@pytest.mark.parametrize("n_free", [1, 4])
def test_a_strength_of_zero_is_a_flat_prior(kind, n_free, rng):
    X, y = design(rng), response("Poisson", rng, N_ROWS)
    strength = np.where(np.arange(N_FEATURES) < n_free, 0.0, 0.3)
    regularizer = (
        nmo.regularizer.GroupLasso(mask=np.eye(N_FEATURES)) if kind == "GroupLasso" else kind
    )
    given = (strength, 0.4) if kind == "ElasticNet" else strength
    model = nmo.glm.GLM(regularizer=regularizer, regularizer_strength=given)
    joint = model.numpyro_model(X, y)

    def loss(coef, intercept):
        # groups of one coefficient: their norm is the absolute value
        same = "Lasso" if kind == "GroupLasso" else kind
        return neuron_loss(model, coef, intercept, X, y) + textbook.penalty(same, given, coef)

    first, second = (draw_theta(rng, "exp", (N_FEATURES,)) for _ in range(2))
    assert_contract(
        N_ROWS * (loss(*first) - loss(*second)),
        log_joint(joint, *first) - log_joint(joint, *second),
    )


@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_loss_of_a_population_is_the_sum_over_its_neurons(name, link, rng):
    X, y = design(rng), response(name, rng, (N_ROWS, N_NEURONS))
    coef, intercept = draw_theta(rng, link, (N_FEATURES, N_NEURONS), MASKS["some"])
    single = nmo.glm.GLM(family(name), link)
    apart = [neuron_loss(single, coef[:, k], intercept[k], X, y[:, k]) for k in range(N_NEURONS)]
    together = nmo.glm.PopulationGLM(family(name), link, feature_mask=MASKS["some"])
    np.testing.assert_allclose(neuron_loss(together, coef, intercept, X, y), sum(apart), rtol=RTOL)


def test_every_regularizer_is_in_the_contract():
    structured = {type(kind).__name__ for kind, _ in own_priors.OWN.values()} - {"Own"}
    assert set(tables.REGULARIZERS) | structured == set(nmo.regularizer.REGULARIZERS)
