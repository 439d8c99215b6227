"""A weight of w is the row w times, and a weight of zero is no row: for every public result.

Weighted and repeated rows have one shape here, so that both go through the same programs. They add up the same numbers
in another order: fits agree to 1e-6 standard errors (the promise of test_stationarity), densities to rounding.
"""

import jax
import numpy as np
import pytest
import tables
from numpyro.infer.util import log_density

import bayesglm as nmo
from bayesglm import posterior

N, NEURONS, CLASSES = tables.N_SAMPLES, tables.N_NEURONS, tables.N_CLASSES
X = tables.X
#: How often each row counts: N rows again in all.
TIMES = np.random.default_rng(5).permutation(np.repeat([0, 1, 2], [50, 100, 50]))
GROUPS = np.arange(N) % 20
REPEATED = np.repeat(np.arange(N), TIMES)
# The normal approximation is not judged here: both sides of a law have the same.
pytestmark = pytest.mark.filterwarnings("ignore:.*the normal approximation is too far off")
QUIET = {"progress_bar": False, "method": "laplace", "num_samples": 100, "num_chains": 1}
ATOL = 1e-6


def faces(kind):
    """All estimators and families with their responses."""
    strength = tables.REGULARIZERS[kind]
    glm, labels = nmo.glm, tables.LABELS
    found = {
        f"GLM {name}": (glm.GLM(name, None, kind, strength), y[:, 0])
        for name, y in tables.RESPONSES.items()
    }
    found |= {
        f"PopulationGLM {name}": (
            glm.PopulationGLM(name, None, kind, strength),
            tables.RESPONSES[name],
        )
        for name in ("Gaussian", "NegativeBinomial")
    }
    found["ClassifierGLM"] = (glm.ClassifierGLM(CLASSES, None, kind, strength), labels[:, 0])
    many = glm.ClassifierPopulationGLM(CLASSES, None, kind, strength)
    found["ClassifierPopulationGLM"] = (many, labels)
    return found


FACES = tuple(faces("Ridge"))
WEIGHTED = {"sample_weight": TIMES.astype(float)}


def pair(face, kind, fit):
    """The same model of weighted and of repeated rows, with the arguments that go with each."""
    found = []
    for rows, weights in ((slice(None), WEIGHTED), (REPEATED, {})):
        model, y = faces(kind)[face]
        fit(model, X[rows], y[rows], weights)
        found.append((model, (X[rows], y[rows]), weights))
    return found


def assert_same(results, atol=ATOL, rtol=1e-5):
    for name in results[0]:
        one, other = (np.asarray(each[name], float) for each in results)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol, err_msg=name)


SCORES = ("log-likelihood", "pseudo-r2-McFadden", "pseudo-r2-Cohen")


@pytest.mark.parametrize("face", FACES)
def test_fits_scores_and_errors_count_a_row_as_often_as_its_weight_says(face):
    results = []
    for model, data, weights in pair(face, "UnRegularized", lambda m, X, y, w: m.fit(X, y, **w)):
        found = {"scale": model.scale_, "dof": model.dof_resid_}
        found |= {kind: model.score(*data, score_type=kind, **weights) for kind in SCORES}
        groups = GROUPS[slice(None) if weights else REPEATED]
        for robust in (False, "HC1", True, "CR1", "cluster"):
            more = {"groups": groups} if str(robust)[0].lower() == "c" else {}
            table = model.summary(*data, robust=robust, **more, **weights)
            found |= {f"{name}, robust {robust}": table[name] for name in table}
        results.append(found)
    assert_same(results)


@pytest.mark.parametrize("prior", [None, "auto"])
@pytest.mark.parametrize("face", FACES)
def test_joint_densities_count_a_row_as_often_as_its_weight_says(face, prior):
    rng = np.random.default_rng(1)
    kind = "Ridge" if prior is None else "UnRegularized"
    model, y = faces(kind)[face]
    shape = ((NEURONS,) if "Population" in face else ()) + (
        (CLASSES,) if "Classifier" in face else ()
    )
    draw = lambda *shape: np.abs(0.1 * rng.normal(size=shape))  # noqa: E731
    points = [
        {"coef": draw(4, *shape), "intercept": 3.0 + draw(*shape), "scale": 1.0 + draw(*shape)}
        for _ in range(2)
    ]
    if "Classifier" in face:
        for point in points:
            point["coef"] -= point["coef"].mean(axis=-1, keepdims=True)
            point["intercept"] -= point["intercept"].mean(axis=-1, keepdims=True)
    results = []
    with jax.enable_x64(True):
        for rows, weights in ((slice(None), WEIGHTED), (REPEATED, {})):
            joint = model.numpyro_model(X[rows], y[rows], prior=prior, **weights)
            results.append({str(i): log_density(joint, (), {}, p)[0] for i, p in enumerate(points)})
    assert np.isfinite(list(results[0].values())).all()
    assert_same(results, atol=0, rtol=1e-11)  # sums of a few hundred terms in float64


SAMPLED = ("GLM Poisson", "GLM Gamma", "GLM Binomial", "PopulationGLM Gaussian", "ClassifierGLM")


@pytest.mark.parametrize("face", SAMPLED)
def test_leave_one_out_counts_a_row_as_often_as_its_weight_says(face):
    def sample(model, X, y, weights):
        if weights:
            return model.sample_posterior(X, y, **QUIET, **weights)
        return model.fit(X, y)

    (weighted, data, weights), (repeated, more, _) = pair(face, "Ridge", sample)
    both = weighted, repeated
    repeated.posterior_ = weighted.posterior_  # one posterior, by the law of joint densities
    scores = [m.loo(*d, **w) for m, d, w in ((weighted, data, weights), (repeated, more, {}))]
    assert_same([{k: s[k] for k in ("elpd", "se", "p", "n_data_points")} for s in scores], 1e-8)
    assert isinstance(scores[0].n_data_points, int)
    np.testing.assert_allclose(scores[0].elpd_i.sum(), scores[0].elpd)
    if "Classifier" in face:
        return
    ends = [np.asarray(m.predict_interval(X[:9], kind="response")) for m in both]
    np.testing.assert_array_equal(*ends)
    if "Ga" in face:  # those of counts are randomised
        one, other = (weighted.loo_pit(*data, **weights), repeated.loo_pit(*more))
        np.testing.assert_allclose(np.repeat(one, TIMES, axis=0), other, rtol=0, atol=1e-8)
        assert np.isnan(one[TIMES == 0]).all()


@pytest.mark.parametrize("face", ["GLM Gaussian", "ClassifierGLM"])
def test_splitting_a_weight_changes_nothing(face):
    rng = np.random.default_rng(2)
    half = rng.permutation(N)[: N // 2]
    rows, weight, share = np.tile(half, 2), rng.uniform(0.5, 3.0, N // 2), rng.uniform(size=N // 2)
    results, tree = [], None
    for parts in ((weight, 0.0 * weight), (share * weight, (1.0 - share) * weight)):
        weights = {"sample_weight": np.concatenate(parts)}
        plain, y = faces("UnRegularized")[face]
        model, _ = faces("Ridge")[face]
        data = X[rows], y[rows]
        tables = [
            plain.fit(*data, **weights).summary(*data, robust=r, **weights) for r in (False, True)
        ]
        model.sample_posterior(*data, **QUIET, **weights)
        tree = model.posterior_ if tree is None else tree
        model.posterior_ = tree
        score = model.loo(*data, **weights)
        found = {k: score[k] for k in ("elpd", "se", "p", "n_data_points")}
        found |= {f"{k} {i}": t[k] for i, t in enumerate(tables) for k in t}
        results.append(found)
    assert_same(results)


def test_weights_of_the_fit_are_asked_for_where_they_are_missing():
    model, y = faces("Ridge")["GLM Gaussian"]
    model.fit(X, y, **WEIGHTED)
    assert len(model.summary(X, y, **WEIGHTED)) == 5
    with pytest.raises(ValueError, match="add up to 150 .*200 were fitted.*same `sample_weight`"):
        model.summary(X[:150], y[:150])
    weights = {"sample_weight": 2.0 * TIMES}
    model.sample_posterior(X, y, **QUIET, **weights)
    for score in (model.loo, model.loo_pit):
        with pytest.raises(ValueError, match="400 were sampled.*same `sample_weight`"):
            score(X, y)
    np.testing.assert_array_equal(
        model.posterior_["constant_data"]["sample_weight"], weights["sample_weight"]
    )


def test_rows_that_are_left_out_are_not_missed(rng):
    """Neither weights nor missing values, which may be those of one neuron only, look like other data."""
    model, y = faces("Ridge")["PopulationGLM Gaussian"]
    holes, y = X.astype(np.float32), y.copy()
    holes[3, 1], y[7:19, 1] = np.nan, np.nan
    weights = {"sample_weight": rng.uniform(0.1, 2.0, size=y.shape)}
    model.sample_posterior(holes, y, **QUIET, **weights)
    assert np.isnan(model.loo_pit(holes, y, **weights)).sum() == 3 + 12
    assert np.isfinite(model.loo(holes, y, **weights).elpd)
    assert len(model.summary(holes, y, **weights)) == 15
    other = {"sample_weight": weights["sample_weight"][:, ::-1]}
    with pytest.raises(ValueError, match="of neuron 0"):
        model.loo(holes, y, **other)


def test_units_are_those_of_densities_in_leave_one_out():
    """With the same draws in the units of the data, each score is less by the logarithm of the unit of the response."""
    y, unit, units = tables.RESPONSES["Gaussian"], 50.0, np.array([1e-2, 1.0, 30.0, 1e3])
    model = nmo.glm.PopulationGLM("Gaussian", None, "Ridge", 0.1).sample_posterior(X, y, **QUIET)
    score, uniform = model.loo(X, y), model.loo_pit(X, y)
    tree = model.posterior_.copy()
    data = tree["posterior"].dataset
    coef = data["coef"] * (unit / units)[:, None]
    tree["posterior"] = data.assign(
        coef=coef, intercept=data["intercept"] * unit, scale=data["scale"] * unit**2
    )
    other = nmo.glm.PopulationGLM("Gaussian", None, "Ridge", 0.1).fit(X * units, y * unit)
    del tree["posterior"].attrs["checksum"]
    other.posterior_ = tree
    more = other.loo(X * units, y * unit)
    np.testing.assert_allclose(more.elpd, score.elpd - y.size * np.log(unit), rtol=1e-9)
    for name in ("se", "p"):
        np.testing.assert_allclose(more[name], score[name], rtol=1e-6)
    np.testing.assert_allclose(other.loo_pit(X * units, y * unit), uniform, rtol=0, atol=1e-9)
    order = np.random.default_rng(4).permutation(N)
    permuted = model.loo(X[order], y[order])
    np.testing.assert_allclose([permuted.elpd, permuted.se], [score.elpd, score.se], rtol=1e-9)


def test_some_rows_stand_for_all_copies_of_long_data(monkeypatch):
    model, y = faces("Ridge")["GLM Gaussian"]
    weights = {"sample_weight": np.random.default_rng(3).uniform(0.5, 3.0, N)}
    model.sample_posterior(X, y, **QUIET, **weights)
    whole = model.loo(X, y, **weights)
    monkeypatch.setattr(posterior, "MAX_CELLS", N // 2)
    some = model.loo(X, y, **weights)
    assert (
        some.n_data_points == whole.n_data_points == pytest.approx(weights["sample_weight"].sum())
    )
    # four standard errors, of which there is one draw
    assert 0 < abs(some.elpd - whole.elpd) < 4.0 * some.subsampling_se
    # over many halves of the rows; one half knows it to 1 / sqrt(2 * 100), and scores have a tail
    rng, weight, estimates = np.random.default_rng(0), weights["sample_weight"], []
    for _ in range(2000):
        half = rng.permutation(N)[: N // 2]
        estimates.append(whole.elpd_i.values[half].sum() * weight.sum() / weight[half].sum())
    np.testing.assert_allclose(some.subsampling_se, np.std(estimates), rtol=0.3)
