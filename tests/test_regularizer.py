"""Laws of the regularizers: what they penalise, their proximal operators and priors, and how strengths are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables
import textbook
from problems import problem_of

from bayesglm.glm import GLM, ClassifierGLM, PopulationGLM
from bayesglm.prior import Prior
from bayesglm.regularizer import (
    REGULARIZERS,
    ElasticNet,
    GroupLasso,
    Lasso,
    Ridge,
    UnRegularized,
    resolve,
)

N_FEATURES = 5
LEAVES = [slice(0, 2), slice(2, 5)]
STRENGTHS = {
    "UnRegularized": None,
    "Ridge": 0.7,
    "Lasso": 0.4,
    "ElasticNet": (0.6, 0.3),
    "GroupLasso": 0.5,
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def terms(regularizer, strength, mask=None, leaves=LEAVES, shape=(N_FEATURES,)):
    mask = np.ones(shape, bool) if mask is None else mask
    strength = regularizer.check_strength(strength)
    found = regularizer.terms(strength, mask, lambda s: np.broadcast_to(s, shape), leaves)
    return Prior.of(found, mask)


def elementwise(name, rng):
    values = rng.uniform(0, 1, size=N_FEATURES)
    return {"Ridge": values, "Lasso": values, "ElasticNet": (values, values[::-1])}[name]


ACROSS_LEAVES = {"a": np.array([[1, 0], [0, 1]]), "b": np.array([[0, 1, 0], [0, 0, 1]])}
#: Penalties by name, drawn with a test's random numbers.
PENALTIES = {
    name: lambda rng, name=name: terms(resolve(name), STRENGTHS[name]) for name in STRENGTHS
}
PENALTIES |= {
    f"{name} of each coefficient": lambda rng, name=name: terms(
        resolve(name), elementwise(name, rng)
    )
    for name in ("Ridge", "Lasso", "ElasticNet")
}
PENALTIES |= {
    "groups across leaves": lambda rng: terms(GroupLasso(ACROSS_LEAVES), rng.uniform(0.2, 1, 2)),
    "masked groups": lambda rng: terms(GroupLasso(), 0.5, mask=np.array([1, 0, 1, 1, 0], bool)),
    "ratio zero": lambda rng: terms(ElasticNet(), (0.6, 0.0)),
    "ratio one": lambda rng: terms(ElasticNet(), (0.6, 1.0)),
    "no strength": lambda rng: terms(GroupLasso(), 0.0),
}
#: Those of which the prox takes a step of its own for each coefficient.
VARYING_STEPS = [name for name in PENALTIES if "roup" not in name and name != "no strength"]


def value_of(penalty, coef):
    """Penalty of coefficients (features,), or of each row of (rows, features)."""
    lane = penalty.in_lanes(1)
    found = np.array([lane.value(row[None, None])[0] for row in np.atleast_2d(coef)])
    return found if np.ndim(coef) == 2 else found[0]


def prox_at(penalty, coef, step):
    return np.asarray(penalty.in_lanes(1).whole_prox(coef[None, None], step))[0, 0]


@pytest.mark.parametrize("case", PENALTIES)
def test_numpy_and_jax_agree(case, rng):
    # solvers use the one, stochastic epochs and priors the other
    lane, coef = PENALTIES[case](rng).in_lanes(1), rng.normal(size=(1, 1, N_FEATURES))
    inside, same = jax.tree.map(jnp.asarray, (lane, coef))
    np.testing.assert_allclose(lane.value(coef), inside.value(same), rtol=1e-14)
    for name, step in (("prox", 0.3), ("whole_prox", 0.3)):
        found = getattr(inside, name)(same, step)
        np.testing.assert_allclose(getattr(lane, name)(coef, step), found, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("case", PENALTIES)
def test_prox_is_the_minimiser_of_distance_and_penalty(case, rng):
    # the sum is strongly convex: at its minimiser, and only there, any other point is higher by |d|^2 / (2 step)
    penalty = PENALTIES[case](rng)
    for _ in range(10):
        point, step = rng.normal(size=N_FEATURES), rng.uniform(0.05, 3.0)
        if case in VARYING_STEPS:
            step = step * rng.uniform(0.5, 1.5, size=N_FEATURES)
        found = prox_at(penalty, point, step)
        size = rng.choice([1e-4, 1e-2, 1.0], size=(40, 1))
        others = found + size * rng.normal(size=(40, N_FEATURES))
        # moving within a coordinate or onto the axes are the directions in which a wrong threshold shows
        others = np.concatenate(
            [others, found * (1 + np.eye(N_FEATURES) * 1e-3), found * (1 - np.eye(N_FEATURES))]
        )

        def total(w, point=point, step=step):
            return np.sum((w - point) ** 2 / (2 * step), axis=1) + value_of(penalty, w)

        excess = np.sum((others - found) ** 2 / (2 * step), axis=1)
        assert (total(others) >= total(found[None]) + excess - 1e-13).all()


TREE = {"a": np.array([[0.5, -1.0], [0.1, 0.0]]), "b": np.array([[2.0, -0.3]])}


@pytest.mark.parametrize("name", tables.REGULARIZERS)
@pytest.mark.parametrize("coef", [TREE, TREE["a"]], ids=["tree", "array"])
def test_the_documented_functions_of_parameters_are_those_of_the_penalty(name, coef):
    """Penalised loss and proximal operator against the definition: the prox moves against its own subgradient."""
    regularizer, strength = REGULARIZERS[name](), tables.REGULARIZERS[name]
    params, step = (coef, np.array([0.3, -0.1])), 0.5
    with jax.enable_x64(True):
        loss = regularizer.penalized_loss(
            lambda p, y: (jnp.sum(p[1]) + y, "beside"), params, strength
        )
        prox = regularizer.get_proximal_operator(params, strength)
        value, beside = loss(params, 1.0)
        penalty = value - 1.2
        new, intercept = prox(params, scaling=step)
        assert beside == "beside"
        np.testing.assert_array_equal(intercept, params[1])
        assert jax.tree.structure(new) == jax.tree.structure(coef)

        # the minimum lies below the value at the point itself, and below all points near it
        def objective(p):
            squares = jax.tree.map(lambda a, b: jnp.sum(jnp.square(a - b)), p, coef)
            penalty = loss((p, params[1]), 1.0)[0] - 1.2
            return float(step * penalty + 0.5 * sum(jax.tree.leaves(squares)))

        assert objective(new) <= step * penalty + 1e-12
        rng = np.random.default_rng(0)
        for _ in range(20):
            near = jax.tree.map(lambda a: a + 1e-3 * rng.normal(size=a.shape), new)
            assert objective(new) <= objective(near)
    assert (penalty > 0) == (name != "UnRegularized")


@pytest.mark.parametrize(
    "case", [c for c in PENALTIES if c not in ("UnRegularized", "no strength")]
)
def test_prox_is_a_contraction_towards_zero(case, rng):
    penalty = PENALTIES[case](rng)
    point = rng.normal(size=N_FEATURES)
    found = prox_at(penalty, point, 0.3)
    assert (np.abs(found) <= np.abs(point)).all()
    np.testing.assert_array_equal(prox_at(penalty, np.zeros(N_FEATURES), 0.3), 0.0)
    assert value_of(penalty, np.zeros(N_FEATURES)) == 0.0


@pytest.mark.parametrize("name", STRENGTHS)
def test_penalty_is_that_of_the_textbook(name, rng):
    used = np.array([1, 0, 1, 1, 0])
    coef = rng.normal(size=N_FEATURES) * used
    penalty = terms(resolve(name), STRENGTHS[name], mask=used.astype(bool))
    expected = textbook.penalty(name, STRENGTHS[name], coef, used, LEAVES)
    np.testing.assert_allclose(value_of(penalty, coef), expected, rtol=1e-14)


def test_penalty_of_groups_of_your_own_joins_leaves(rng):
    coef, strength = rng.normal(size=N_FEATURES), np.array([0.3, 1.2])
    penalty = terms(GroupLasso(ACROSS_LEAVES), strength)
    groups = [coef[[0, 3]], coef[[1, 4]]]  # the third coefficient is in no group
    expected = sum(
        s * np.sqrt(2) * np.linalg.norm(g) for s, g in zip(strength, groups, strict=True)
    )
    np.testing.assert_allclose(value_of(penalty, coef), expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(N_FEATURES,), (N_FEATURES, 2)])
@pytest.mark.parametrize("name", STRENGTHS)
def test_prior_is_the_exponential_of_minus_the_weighted_penalty(name, shape, rng):
    regularizer, strength = resolve(name), STRENGTHS[name]
    mask = np.ones(shape, bool)
    penalty = terms(regularizer, strength, mask, shape=shape)
    weight = np.array([3.0, 11.0])[: len(shape[1:]) * 2] if len(shape) > 1 else 7.0
    prior = penalty.distribution(weight)
    first, second = rng.normal(size=(2, *shape))

    def weighted(coef):
        columns = coef.reshape(N_FEATURES, -1).T
        return sum(
            w * textbook.penalty(name, strength, column, leaves=LEAVES)
            for w, column in zip(np.atleast_1d(weight), columns, strict=True)
        )

    np.testing.assert_allclose(
        prior.log_prob(first) - prior.log_prob(second),
        weighted(second) - weighted(first),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_prior_of_what_is_not_in_use_does_not_depend_on_strength_or_weight(name):
    mask = np.array([1, 0, 1, 1, 0], bool)
    coef = np.where(mask, 0.0, 0.8)
    changes = []
    for weight, strength in ((1.0, STRENGTHS[name]), (50.0, _doubled(STRENGTHS[name]))):
        prior = terms(resolve(name), strength, mask).distribution(weight)
        changes.append(prior.log_prob(coef) - prior.log_prob(0 * coef))
    np.testing.assert_allclose(*changes, rtol=1e-13)


def _doubled(strength):
    if isinstance(strength, tuple):
        return (2 * strength[0], strength[1])
    return None if strength is None else 2 * strength


# -- strengths -------------------------------------------------------------------------------------


def fit(regularizer, strength, X=tables.X, y=tables.RESPONSES["Poisson"][:, 0], kind=GLM, **kwargs):
    return kind(regularizer=regularizer, regularizer_strength=strength, **kwargs).fit(X, y)


@pytest.mark.parametrize(("ratio", "same"), [(0.0, "Ridge"), (1.0, "Lasso")])
def test_elastic_net_at_the_ends_of_its_ratio_is_ridge_and_lasso(ratio, same):
    # solvers stop within 1e-4 standard errors or so of the same optimum; these are of the order of 0.1
    tight = {"solver_name": "ProximalGradient", "solver_kwargs": {"tol": 1e-8, "maxiter": 2000}}
    mixed, pure = fit("ElasticNet", (0.1, ratio), **tight), fit(same, 0.1, **tight)
    np.testing.assert_allclose(mixed.coef_, pure.coef_, atol=1e-7)
    np.testing.assert_allclose(mixed.intercept_, pure.intercept_, atol=1e-7)


FORMATS = {
    "a number": 0.2,
    "an integer": 1,
    "an array of no dimension": np.array(0.2),
    "a JAX number": np.float32(0.25),
    "an array": np.full(4, 0.2),
    "a list": [0.2, 0.2, 0.3, 0.2],
}


@pytest.mark.parametrize("case", FORMATS)
@pytest.mark.parametrize("name", ["Ridge", "Lasso", "ElasticNet"])
def test_strength_formats_mean_one_number_per_coefficient(name, case):
    given = FORMATS[case]
    each = np.broadcast_to(np.asarray(given, float), 4)
    model = GLM(regularizer=name, regularizer_strength=given)
    reference = GLM(regularizer=name, regularizer_strength=each)
    problems = [
        problem_of(m, tables.X, tables.RESPONSES["Poisson"][:, 0]) for m in (model, reference)
    ]
    lanes = (jax.tree.leaves(p.prior.in_lanes(1)) for p in problems)
    for found, expected in zip(*lanes, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_scalar_strength_becomes_a_float():
    for value in (1, np.array(1.0), jnp.array(1.0), np.float32(1.0)):
        assert (
            type(GLM(regularizer="Ridge", regularizer_strength=value).regularizer_strength) is float
        )
    assert GLM(regularizer="ElasticNet", regularizer_strength=2).regularizer_strength == (2.0, 0.5)
    assert GLM(regularizer="UnRegularized", regularizer_strength=3.0).regularizer_strength is None


def test_a_tree_of_strengths_mirrors_the_features():
    X = {"a": tables.X[:, :1], "b": tables.X[:, 1:]}
    y = tables.RESPONSES["Poisson"][:, 0]
    tree = fit("Ridge", {"a": 0.5, "b": [0.1, 0.2, 0.3]}, X, y)
    flat = fit("Ridge", [0.5, 0.1, 0.2, 0.3], tables.X, y)
    found = np.concatenate([tree.coef_["a"], tree.coef_["b"]])
    np.testing.assert_allclose(found, flat.coef_, atol=1e-7)


@pytest.mark.parametrize("name", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
@pytest.mark.parametrize("strength", ["strong", [0.1, "a"], object(), True, {"a": "b"}])
def test_a_strength_that_is_not_numeric_is_refused(name, strength):
    with pytest.raises((TypeError, ValueError), match="regularizer_strength"):
        GLM(regularizer=name, regularizer_strength=strength)


@pytest.mark.parametrize("name", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
@pytest.mark.parametrize("strength", [-1.0, np.nan, np.inf, [0.1, -0.1]])
def test_a_strength_that_is_negative_or_not_finite_is_refused(name, strength):
    with pytest.raises(ValueError, match="finite and non-negative"):
        GLM(regularizer=name, regularizer_strength=strength)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, [0.5, 2.0]])
def test_a_ratio_lies_between_zero_and_one(ratio):
    with pytest.raises(ValueError, match="ratio"):
        GLM(regularizer="ElasticNet", regularizer_strength=(1.0, ratio))


@pytest.mark.parametrize("strength", [(1.0,), (1.0, 0.5, 0.1)])
def test_elastic_net_takes_pairs(strength):
    with pytest.raises(TypeError, match=r"pair \(strength, ratio\)"):
        GLM(regularizer="ElasticNet", regularizer_strength=strength)


@pytest.mark.parametrize("name", ["Ridge", "Lasso", "ElasticNet"])
def test_a_strength_of_the_wrong_shape_is_refused_at_fit(name):
    model = GLM(regularizer=name, regularizer_strength=np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(3,\).*\(4,\)"):
        model.fit(tables.X, tables.RESPONSES["Poisson"][:, 0])
    model = GLM(regularizer=name, regularizer_strength={"other": 1.0})
    with pytest.raises(TypeError, match="structure"):
        model.fit({"a": tables.X}, tables.RESPONSES["Poisson"][:, 0])


def test_group_strengths_are_one_number_or_one_per_group():
    y = tables.RESPONSES["Poisson"][:, 0]
    groups = GroupLasso(np.array([[1, 1, 0, 0], [0, 0, 1, 1]]))
    with pytest.raises(ValueError, match="number or an array"):
        GLM(regularizer=groups, regularizer_strength=np.ones((2, 2)))
    with pytest.raises(ValueError, match="2 groups"):
        GLM(regularizer=groups, regularizer_strength=np.ones(3)).fit(tables.X, y)
    both = [fit(groups, strength, tables.X, y).coef_ for strength in (0.05, [0.05, 0.05])]
    np.testing.assert_array_equal(*both)


# -- defaults, and switching -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Ridge", "Lasso", "ElasticNet", "GroupLasso"])
def test_a_missing_strength_is_the_default_with_a_warning_at_fit_only(name, recwarn):
    model = GLM(regularizer=name)
    assert model.regularizer_strength == ((1.0, 0.5) if name == "ElasticNet" else 1.0)
    assert not recwarn
    with pytest.warns(UserWarning, match=f"No `regularizer_strength` was given for {name}"):
        model.fit(tables.X, tables.RESPONSES["Poisson"][:, 0])


def test_a_default_that_nobody_named_is_silent():
    ClassifierGLM(n_classes=3).fit(tables.X, tables.LABELS[:, 0])
    GLM().fit(tables.X, tables.RESPONSES["Poisson"][:, 0])
    PopulationGLM().fit(tables.X, tables.RESPONSES["Poisson"])


def test_assigning_a_regularizer_keeps_the_strength_and_checks_it():
    model = GLM(regularizer="Ridge", regularizer_strength=0.3)
    model.regularizer = "Lasso"
    assert model.regularizer_strength == 0.3
    model.regularizer = "ElasticNet"
    assert model.regularizer_strength == (0.3, 0.5)
    model = GLM(regularizer="Ridge", regularizer_strength=np.ones((4, 4)))
    with pytest.raises(ValueError, match="number or an array"):
        model.regularizer = "GroupLasso"
    assert isinstance(model.regularizer, Ridge)


def test_set_params_resets_the_strength_with_the_regularizer():
    model = GLM(regularizer="Ridge", regularizer_strength=0.3)
    assert model.set_params(regularizer="Lasso").regularizer_strength == 1.0
    assert model.set_params(regularizer="ElasticNet").regularizer_strength == (1.0, 0.5)
    assert model.set_params(regularizer="UnRegularized").regularizer_strength is None
    assert model.set_params(regularizer="Ridge").regularizer_strength == 1.0


PAIR = {"regularizer": "ElasticNet", "regularizer_strength": (0.2, 0.9)}


@pytest.mark.parametrize("name", ["Ridge", "Lasso", "GroupLasso"])
def test_a_pair_of_strength_and_ratio_is_not_taken_over_by_another_regularizer(name):
    model = GLM(**PAIR)
    with pytest.raises(ValueError, match=f"pair for ElasticNet; give {name} one of its own"):
        model.regularizer = name
    assert isinstance(model.regularizer, ElasticNet)
    assert model.regularizer_strength == (0.2, 0.9)
    # without a strength it is the default, with one it is that
    assert GLM(**PAIR).set_params(regularizer=name).regularizer_strength == 1.0
    both = {"regularizer": name, "regularizer_strength": 0.3}
    assert GLM(**PAIR).set_params(**both).regularizer_strength == 0.3
    model.set_params(**both).fit(tables.X, tables.RESPONSES["Poisson"][:, 0])
    with pytest.raises(TypeError, match="numeric|number"):
        GLM(**PAIR).set_params(regularizer=name, regularizer_strength="strong")
    # a default pair was nobody's choice
    model = GLM(regularizer="ElasticNet")
    model.regularizer = name
    assert model.regularizer_strength == 1.0


def test_no_regularizer_ignores_any_strength_also_a_pair():
    model = GLM(**PAIR)
    model.regularizer = "UnRegularized"
    assert model.regularizer_strength is None
    assert GLM(**PAIR).set_params(regularizer="UnRegularized").regularizer_strength is None
    model.regularizer = "ElasticNet"
    assert model.regularizer_strength == (1.0, 0.5)


@pytest.mark.parametrize("first", ["regularizer", "regularizer_strength"])
def test_set_params_takes_regularizer_and_strength_in_any_order(first):
    new = {"regularizer": "ElasticNet", "regularizer_strength": (0.2, 0.9)}
    new = dict(sorted(new.items(), key=lambda item: item[0] != first))
    model = GLM(regularizer="Ridge", regularizer_strength=0.3).set_params(**new)
    assert model.regularizer_strength == (0.2, 0.9)


def test_a_refused_set_params_changes_nothing():
    model = GLM(regularizer="Ridge", regularizer_strength=0.3)
    with pytest.raises(ValueError, match="ratio"):
        model.set_params(regularizer="ElasticNet", regularizer_strength=(1.0, 7.0))
    assert isinstance(model.regularizer, Ridge)
    assert model.regularizer_strength == 0.3


def test_switching_to_a_penalty_that_the_solver_cannot_minimise_warns_and_falls_back():
    model = GLM(regularizer="Ridge", regularizer_strength=0.3, solver_name="LBFGS")
    with pytest.warns(UserWarning, match="'LBFGS'.* not allowed for Lasso.*'ProximalGradient'"):
        model.regularizer = "Lasso"
    assert model.solver_name == "ProximalGradient"
    with pytest.raises(ValueError, match="not allowed for Lasso"):
        GLM(regularizer="Lasso", regularizer_strength=0.1, solver_name="LBFGS")


def test_a_solver_that_nobody_named_follows_the_regularizer(recwarn):
    model = GLM(regularizer="Ridge", regularizer_strength=0.3)
    assert model.solver_name == "LBFGS"
    model.regularizer = "Lasso"
    assert model.solver_name == "ProximalGradient"
    model.regularizer = "Ridge"
    assert model.solver_name == "LBFGS"
    assert not recwarn


@pytest.mark.parametrize("name", tables.REGULARIZERS)
def test_allowed_solvers_are_those_documented(name):
    documented = {solver for solver, kinds in tables.SOLVERS.items() if name in kinds}
    regularizer = resolve(name)
    # solvers beyond the documented ones may join
    assert documented <= set(regularizer.allowed_solvers)
    assert regularizer.default_solver in documented
    for solver in set(tables.SOLVERS) - documented:
        with pytest.raises(ValueError, match=f"'{solver}' is not allowed for {name}"):
            regularizer.check_solver(solver)


def test_regularizers_are_known_by_name():
    for name, kind in {
        "Ridge": Ridge,
        "bayesglm.regularizer.Lasso": Lasso,
        "nemos.regularizer.UnRegularized": UnRegularized,
    }.items():
        assert type(resolve(name)) is kind
    assert type(resolve(None)) is UnRegularized
    with pytest.raises(ValueError, match="Known: UnRegularized, Ridge"):
        resolve("ridge")
    for wrong in (Ridge, 1.0):
        with pytest.raises(TypeError, match="must be a name or an instance"):
            resolve(wrong)
