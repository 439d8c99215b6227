"""A fit ends at the optimum or says that it does not, wherever it starts, whatever the offsets and units.

The proof is Newton's decrement of textbook losses (see `reference`) in standard errors.
"""

import warnings

import jax
import numpy as np
import pytest
import tables
from reference import LINKS, Problem, fitted

import bayesglm as nmo

X, N, P, NEURONS = tables.X, tables.N_SAMPLES, tables.N_FEATURES, tables.N_NEURONS
PAIRS = [(family, link) for family, links in tables.FAMILY_LINKS.items() for link in links]
# What is promised of a fit that does not warn, in standard errors: the floor of float64 (`solvers._run`).
CLOSE = 1e-3
# Of rows in float32, where seven digits leave two of those of a standard error (test_hard_design).
CLOSE_FLOAT32 = 1e-2
ATOL = 1e-6  # of coefficients: the promise of test_stationarity


def population(family, link, kind="UnRegularized"):
    return nmo.glm.PopulationGLM(family, link, kind, tables.REGULARIZERS[kind])


def fit(model, *args, **kwargs):
    """Fit, and return what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*args, **kwargs)
    assert all(issubclass(warning.category, RuntimeWarning) for warning in caught)
    return " ".join(str(warning.message) for warning in caught)


def trusted(model):
    """Neurons of which a fit says that they are at a finite optimum."""
    state = model.solver_state_
    return state.converged & ~state.separated & np.isfinite(fitted(model)[1])


# -- units of the response ----------------------------------------------------------------------------


#: What the coefficients, the intercept and the dispersion become where the response is multiplied by c.
UNITS = {
    ("Gaussian", "identity"): lambda coef, intercept, scale, c: (coef * c, intercept * c, scale * c**2),
    ("Gaussian", "exp"): lambda coef, intercept, scale, c: (coef, intercept + np.log(c), scale * c**2),
    ("Gamma", "one_over_x"): lambda coef, intercept, scale, c: (coef / c, intercept / c, scale),
    ("Gamma", "exp"): lambda coef, intercept, scale, c: (coef, intercept + np.log(c), scale),
    ("Poisson", "exp"): lambda coef, intercept, scale, c: (coef, intercept + np.log(c), scale),
}  # fmt: skip


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e8])
@pytest.mark.parametrize(("family", "link"), UNITS)
def test_units_of_the_response_are_those_of_the_estimates(family, link, unit):
    # a Gaussian mean of exp is positive
    y = tables.RESPONSES["Gamma" if link == "exp" else family]
    one, other = (population(family, link).fit(X, y * c) for c in (1.0, unit))
    expected = UNITS[family, link](*fitted(one), np.asarray(one.scale_), unit)
    with jax.enable_x64(True):
        found = (*fitted(other), np.asarray(other.scale_))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=ATOL, atol=ATOL * np.abs(b).max())
    np.testing.assert_allclose(other.score(X, y * unit, "pseudo-r2-Cohen"),
                               one.score(X, y, "pseudo-r2-Cohen"), rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize("unit", [1e-12, 1e6])
@pytest.mark.parametrize("family", tables.RESPONSES)
def test_units_of_weights_do_not_move_an_estimate_without_penalty(family, unit):
    y = tables.RESPONSES[family]
    plain = fitted(population(family, None).fit(X, y))
    other = fitted(population(family, None).fit(X, y, sample_weight=np.full(N, unit)))
    for a, b in zip(other, plain, strict=True):
        # a sum of weights below one is stopped as one row is: ten times 1e-6 standard errors of that
        np.testing.assert_allclose(a, b, rtol=0, atol=10 * ATOL)


@pytest.mark.parametrize("link", ["one_over_x", "exp", "softplus"])
def test_a_neuron_in_small_units_leaves_the_others_as_they_are(link):
    y = tables.RESPONSES["Gamma"]
    plain = fitted(population("Gamma", link).fit(X, y))
    found = fitted(population("Gamma", link).fit(X, y * [1.0, 1e-4, 1.0]))
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_allclose(a[..., [0, 2]], b[..., [0, 2]], rtol=0, atol=ATOL)
        assert np.isfinite(a).all()


# -- starts and offsets -------------------------------------------------------------------------------


#: Standard deviations of the offset, one for each neuron.
SPREADS = np.array([0.1, 3.0, 30.0])


def with_offset(family, link, rng, dtype=float, most=8):
    """Responses that follow an offset up to `most`; the reciprocal link needs positive ones."""
    offset = rng.normal(size=(N, NEURONS)) * SPREADS
    if link == "one_over_x":
        offset = np.abs(offset)
        mean = LINKS[link](np.abs(tables.ETA) + 0.3 + offset)[0]
    else:
        mean = LINKS[link](tables.ETA + np.clip(offset, -most, most))[0]
    draw = {
        "Poisson": lambda: rng.poisson(mean),
        "Gamma": lambda: rng.gamma(2.0, mean / 2.0),
        "Gaussian": lambda: mean + rng.normal(size=mean.shape),
        "Bernoulli": lambda: rng.binomial(1, mean),
        "Binomial": lambda: pairs(rng, mean),
        "NegativeBinomial": lambda: rng.poisson(mean * rng.gamma(1.0, 1.0, size=mean.shape)),
    }
    return draw[family]().astype(dtype), offset.astype(dtype)


def pairs(rng, mean):
    trials = rng.integers(1, 6, size=mean.shape)
    successes = rng.binomial(trials, mean)
    return np.stack([successes, trials - successes], axis=-1)


def start(link, rng):
    """Parameters from near to far; within the domain of the reciprocal link."""
    intercept = rng.permutation([-1, 1, 1])[:NEURONS] * 10.0 ** rng.uniform(0, 2.9, size=NEURONS)
    coef = rng.normal(size=(P, NEURONS)) * np.abs(intercept) / 10
    return (0 * coef, np.abs(intercept)) if link == "one_over_x" else (coef, intercept)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["UnRegularized", "Lasso"])
@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_any_start_with_any_offset_ends_at_the_optimum_or_says_so(family, link, kind, dtype, rng):
    y, offset = with_offset(family, link, rng, dtype)
    close, X = CLOSE if dtype == np.float64 else CLOSE_FLOAT32, tables.X.astype(dtype)
    for given in (None, start(link, rng), start(link, rng)):
        model = population(family, link, kind)
        message = fit(model, X, y, init_params=given, offset=offset)
        good = trusted(model)
        assert good.all() or ("did not converge" in message or "separation" in message)
        coef, intercept = fitted(model)
        for k in np.flatnonzero(good):
            strength = tables.REGULARIZERS[kind]
            row = y[:, k].astype(float), offset[:, k].astype(float)
            problem = Problem(family, link, X, row[0], kind, strength, offset=row[1])
            theta = problem.theta(coef[:, k], intercept[k])
            assert problem.residual_distance(theta) <= close
            if problem.penalty.l1.any():  # slopes at kinks, in units of their largest
                slope = problem.loss_derivatives(theta)[0][:-1]
                excess = problem.penalty.excess_at_kinks(slope, coef[:, [k]] != 0)
                assert excess <= close * strength


@pytest.mark.parametrize("kind", ["UnRegularized", "Lasso"])
@pytest.mark.parametrize(("family", "link"), [pair for pair in PAIRS if pair[1] == "exp"])
def test_float32_rows_do_not_keep_large_counts_from_their_optimum(family, link, kind, rng):
    """Millions of counts: the seventh digit of a rate is hundredths of a standard error and more."""
    X = tables.X.astype(np.float32)
    for _ in range(3):
        y, offset = with_offset(family, link, rng, np.float32, most=15)
        message = fit(model := population(family, link, kind), X, y, offset=offset)
        assert "did not converge" not in message
        coef, intercept = fitted(model)
        for k in np.flatnonzero(trusted(model)):
            row = y[:, k].astype(float), offset[:, k].astype(float)
            strength = tables.REGULARIZERS[kind]
            problem = Problem(family, link, X, row[0], kind, strength, offset=row[1])
            assert (
                problem.residual_distance(problem.theta(coef[:, k], intercept[k])) <= CLOSE_FLOAT32
            )


@pytest.mark.parametrize("value", [-800.0, 800.0])
@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_a_start_where_every_gradient_vanishes_does_no_harm(family, link, value):
    y = tables.RESPONSES[family]
    plain = fitted(population(family, link).fit(X, y))
    given = np.zeros((P, NEURONS)), np.full(NEURONS, value)
    message = fit(model := population(family, link), X, y, init_params=given)
    assert message == ""
    for a, b in zip(fitted(model), plain, strict=True):
        # two fits at distances of 1e-6 standard errors, of which the largest here is that of softplus, about 0.3
        np.testing.assert_allclose(a, b, rtol=0, atol=2 * ATOL)


@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_offsets_beyond_the_range_of_the_link_raise_nothing(family, link, rng):
    low = -1.0 if link != "one_over_x" else 1e-4
    offset = 800.0 * np.where(rng.normal(size=(N, NEURONS)) > 0, 1.0, low)
    message = fit(model := population(family, link), X, tables.RESPONSES[family], offset=offset)
    assert np.isfinite(fitted(model)[0]).any()
    assert trusted(model).all() or message


def test_one_offset_far_below_the_others_is_no_optimum_at_the_start():
    offset = np.zeros(N)
    offset[0] = np.log(1e-16)
    y = tables.RESPONSES["Gamma"][:, 0]
    model = nmo.glm.GLM("Gamma", "exp").fit(X, y, offset=offset)
    problem = Problem("Gamma", "exp", X, y, offset=offset)
    assert problem.residual_distance(problem.theta(*fitted(model))) <= CLOSE


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_offsets_of_two_classes_are_those_of_their_difference(dtype, rng):
    """Also where all probabilities round to 0 and 1."""
    y = tables.RESPONSES["Bernoulli"][:, 0]
    for spread in (1.0, 10.0, 100.0):
        offset = spread * rng.normal(size=(N, 2))
        model = nmo.glm.ClassifierGLM(2, None, "UnRegularized")
        assert fit(model, X.astype(dtype), y.astype(int), offset=offset) == ""
        coef, intercept = fitted(model)
        difference = offset.astype(dtype).astype(float) @ [-1, 1]
        problem = Problem("Bernoulli", "logistic", X.astype(dtype), y, offset=difference)
        theta = problem.theta(coef[:, 1] - coef[:, 0], intercept[1] - intercept[0])
        assert problem.residual_distance(theta) <= (CLOSE if dtype == np.float64 else CLOSE_FLOAT32)


# -- what has no optimum ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["absence", "weight"])
@pytest.mark.parametrize("kind", tables.REGULARIZERS)
def test_a_class_that_one_neuron_lacks_is_named(kind, by):
    strength = tables.REGULARIZERS[kind]
    classifiers = lambda: nmo.glm.ClassifierPopulationGLM(3, None, kind, strength)  # noqa: E731
    y, weight = tables.LABELS.copy(), np.ones(tables.LABELS.shape)
    plain = fitted(classifiers().fit(X, y))
    if by == "absence":
        y[y[:, 1] == 2, 1] = 0
    else:
        weight[y[:, 1] == 2, 1] = 0
    with pytest.warns(RuntimeWarning, match=r"Neurons 1: without a row of some class") as caught:
        model = classifiers().fit(X, y, sample_weight=weight)
    assert len(caught) == 1
    assert "did not converge" not in str(caught[0].message)
    assert list(model.solver_state_.separated) == [False, True, False]
    for a, b in zip(fitted(model), plain, strict=True):
        np.testing.assert_allclose(a[..., [0, 2], :], b[..., [0, 2], :], rtol=0, atol=ATOL)
        assert np.isfinite(a).all()


@pytest.mark.parametrize("kind", ["UnRegularized", "Lasso"])
@pytest.mark.parametrize("family", ["Poisson", "Bernoulli", "NegativeBinomial", "Gamma"])
def test_a_neuron_without_a_finite_intercept_or_weight_is_named(family, kind):
    y, weight = tables.RESPONSES[family].copy(), np.ones((N, NEURONS))
    plain = fitted(population(family, None, kind).fit(X, y))
    if family == "Gamma":
        weight[:, 1] = 0
    else:
        y[:, 1] = 1.0 if family == "Bernoulli" else 0.0
    with pytest.warns(RuntimeWarning, match=r"Neurons 1: could not be fitted"):
        model = population(family, None, kind).fit(X, y, sample_weight=weight)
    for a, b in zip(fitted(model), plain, strict=True):
        np.testing.assert_allclose(a[..., [0, 2]], b[..., [0, 2]], rtol=0, atol=ATOL)
        assert np.isnan(a[..., 1]).all()


# -- responses that leave nothing to find ---------------------------------------------------------------


def degenerate(family):
    """Responses (samples, neurons) that are constant, exact, far from zero, or huge."""
    line = tables.ETA[:, 0]
    if family == "Gaussian":
        return np.column_stack([0 * line, np.full(N, 3.0), line, 1e8 + line, 1e12 + 0 * line])
    if family == "Gamma":
        columns = np.full(N, 1e-8), np.full(N, 1e8), np.exp(line), 1 + 1e-9 * np.sin(np.arange(N))
        return np.column_stack([*columns, np.full(N, 3.0)])
    counts = np.full(N, 1.0), np.full(N, 3.0), np.round(1e6 * np.exp(line)), np.arange(N) == 0
    return np.column_stack([*counts, np.exp(line) * 1e-9]).astype(float)


def designs():
    """The design of the tables, with columns that say nothing of their own."""
    for name, column in (
        ("twice", X[:, 0]),
        ("constant", 2.0),
        ("zero", 0.0),
        ("far", 1e6 + X[:, 3]),
    ):
        other = X.copy()
        other[:, 3] = column
        yield name, other


@pytest.mark.parametrize("kind", ["UnRegularized", "Ridge", "Lasso"])
@pytest.mark.parametrize("family", ["Gaussian", "Gamma", "Poisson"])
def test_responses_that_leave_nothing_to_find_are_fitted_without_a_word(family, kind):
    y, link = degenerate(family), {"Gaussian": "identity"}.get(family, "exp")
    for name, design in (("plain", X), *designs()):
        model = population(family, link, kind)
        message = fit(model, design, y)
        assert "did not converge" not in message, name
        # a spike in one row only, which a feature may single out, is the one thing that has no optimum
        assert message == "" or "separation" in message, name
        coef, intercept = fitted(model)
        for k in np.flatnonzero(trusted(model)):
            strength = tables.REGULARIZERS[kind]
            problem = Problem(family, link, design, y[:, k], kind, strength)
            theta = problem.theta(coef[:, k], intercept[k])
            mean = LINKS[link](problem.X @ theta)[0][:, 0]
            if np.abs(y[:, k] - mean).max() > 1e-6 * np.abs(y[:, k]).max():  # else it is exact
                assert problem.residual_distance(theta) <= CLOSE, (name, k)


@pytest.mark.parametrize(("family", "link"), [pair for pair in PAIRS if pair[0] != "Bernoulli"])
def test_one_huge_response_among_ordinary_ones_keeps_no_fit_from_its_optimum(family, link):
    """On the way, means of other rows run to zero: the loss has a wall that slopes only get steeper before."""
    for huge in (1e6, 1e9):
        y = tables.RESPONSES[family].copy()
        y[17] = huge
        message = fit(model := population(family, link), X, y)
        assert "did not converge" not in message
        coef, intercept = fitted(model)
        for k in np.flatnonzero(trusted(model)):
            problem = Problem(family, link, X, y[:, k])
            theta = problem.theta(coef[:, k], intercept[k])
            if (
                LINKS[link](problem.X @ theta)[0] > 1e-100
            ).all():  # else the textbook divides by zero
                assert problem.residual_distance(theta) <= CLOSE


@pytest.mark.parametrize("kind", ["Ridge", "Lasso"])
def test_fewer_rows_than_features_end_at_the_optimum_or_say_so(kind, rng):
    """Large counts, of which the penalty moves little: features depend on one another, and all of them matter."""
    few = X[:4] @ rng.normal(size=(P, 6))
    y = np.round(1e6 * np.exp(tables.ETA[:4]))
    message = fit(model := population("Poisson", "exp", kind), few, y)
    good = trusted(model)
    assert good.all() or "did not converge" in message
    coef, intercept = fitted(model)
    for k in np.flatnonzero(good):
        problem = Problem("Poisson", "exp", few, y[:, k], kind, tables.REGULARIZERS[kind])
        assert problem.residual_distance(problem.theta(coef[:, k], intercept[k])) <= CLOSE
