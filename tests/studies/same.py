"""Are the results those of another version? About 200 cases, written by one version and compared by another.

Families x links x regularizers x estimators, masks, weights, offsets, missing rows, float32, pytrees, all solvers; some
with draws, leave-one-out and a report. Everything is asked of the public interface, so that the script runs on any
version that has it, from a checkout of its own (``PYTHONPATH`` says which):

    python -m tests.studies.same --write before.npz
    python -m tests.studies.same --compare before.npz [--limit 1e-6] [--quick] [--only TEXT]

Coefficients and intercepts are compared in standard errors (where the fit has none: those of a unit of information a
row), all else relative to its size. Fits are made to a `tol` far below the limit. Draws use one key: where they are not
equal to the bit, their means and standard deviations are compared in Monte Carlo errors.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import NamedTuple

import jax
import numpy as np
from numpyro.diagnostics import effective_sample_size
from numpyro.infer.util import log_density

import bayesglm as nmo

N, D, NEURONS, CLASSES = 200, 4, 3, 3
_rng = np.random.default_rng(7)
X = _rng.normal(size=(N, D))
ETA = 0.2 + X @ [[0.4, -0.2, 0.0], [-0.3, 0.1, 0.2], [0.0, 0.3, -0.2], [0.2, 0.0, 0.1]]
RATE = np.exp(ETA)
# Data and lists stand here, and not in the tables of the tests: a file that was written stays comparable.
RESPONSES = {
    "Poisson": _rng.poisson(RATE).astype(float),
    "Gamma": _rng.gamma(2.0, RATE / 2.0),
    "Gaussian": ETA + 0.7 * _rng.normal(size=ETA.shape),
    "Bernoulli": _rng.binomial(1, 1 / (1 + np.exp(-ETA))).astype(float),
    "NegativeBinomial": _rng.poisson(RATE * _rng.gamma(1.0, 1.0, size=ETA.shape)).astype(float),
}
LABELS = np.stack(
    [np.argmax(ETA + _rng.gumbel(size=ETA.shape), axis=1) for _ in range(NEURONS)], axis=1
)
LINKS = {
    "Poisson": ("exp", "softplus"),
    "Gamma": ("one_over_x", "exp", "softplus"),
    "Gaussian": ("identity", "exp", "softplus"),
    "Bernoulli": ("logistic", "norm_cdf"),
    "NegativeBinomial": ("exp", "softplus"),
}
STRENGTHS = {
    "UnRegularized": None,
    "Ridge": 0.1,
    "Lasso": 0.03,
    "ElasticNet": (0.05, 0.5),
    "GroupLasso": 0.03,
}
SMOOTH_SOLVERS = ("GradientDescent", "BFGS", "LBFGS", "NonlinearCG", "Newton", "SVRG")
SOLVERS = (*SMOOTH_SOLVERS, "ProximalGradient", "ProxNewton", "ProxSVRG")
# A thousandth of the limit, in standard errors; sums of 32 bit reach no further than theirs.
TOL, TOL_32 = 1e-9, 1e-4
LIMIT, LIMIT_32, LIMIT_ERRORS = 1e-6, 1e-3, 4.0
CHAINS, DRAWS = 2, 100
SCORES = ("log-likelihood", "pseudo-r2-McFadden", "pseudo-r2-Cohen")
_rng = np.random.default_rng(11)
WEIGHT = _rng.integers(0, 3, N).astype(float)
OFFSET = _rng.uniform(-0.3, 0.3, N)
MASK = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]])
# Two groups that each hold two neurons' coefficients.
TIED = np.zeros((2, D, NEURONS))
TIED[0, :2, :2], TIED[1, 2:, 1:] = 1, 1
OWN_GROUPS = np.zeros((2, D))
OWN_GROUPS[0, [0, 2]], OWN_GROUPS[1, 3] = 1, 1
HOWS = (
    "weights", "offset", "missing rows", "float32", "pytree", "strengths",
    "weights, offset, missing rows, pytree",
)  # fmt: skip


class Case(NamedTuple):
    """A model, what is done to its data, and which draws are asked for."""

    face: str
    family: str
    link: str | None = None
    kind: str = "Ridge"
    how: str = ""
    solver: str | None = None
    method: str = ""  # "laplace" or "nuts"

    def __str__(self):
        return ", ".join(part for part in self if part)


def cases():
    """Return the cases by name."""
    pairs = [(f, link) for f, links in LINKS.items() for link in links]
    found = [
        Case(face, family, link, kind)
        for face in ("GLM", "PopulationGLM")
        for family, link in pairs
        for kind in STRENGTHS
        # Other links change nothing about what a prior is: one smooth and one with a kink will do.
        if link == LINKS[family][0] or kind in ("Ridge", "Lasso")
    ]
    classifiers = ("ClassifierGLM", "ClassifierPopulationGLM")
    found += [Case(face, "", None, kind) for face in classifiers for kind in STRENGTHS]
    found += [
        Case("PopulationGLM", "NegativeBinomial", "exp", kind, "estimate")
        for kind in ("UnRegularized", "Ridge", "Lasso")
    ]
    found += [
        Case("PopulationGLM", family, None, kind, "mask")
        for family in ("Poisson", "Gaussian")
        for kind in STRENGTHS
    ]
    found += [Case(classifiers[1], "", None, kind, "mask") for kind in STRENGTHS]
    found += [
        Case("PopulationGLM", family, None, kind, how)
        for family, kind in (
            ("Poisson", "Ridge"), ("Poisson", "Lasso"), ("Gaussian", "GroupLasso"),
            ("Gamma", "UnRegularized"), ("Bernoulli", "ElasticNet"),
        )
        for how in HOWS
        if how != "strengths" or kind in ("Ridge", "Lasso")
    ]  # fmt: skip
    found += [Case(classifiers[1], "", None, "Ridge", how) for how in HOWS if how != "strengths"]
    found += [
        Case("PopulationGLM", "Poisson", None, "GroupLasso", "groups that tie neurons"),
        Case("PopulationGLM", "Gaussian", None, "GroupLasso", "groups that tie neurons"),
        Case("GLM", "Poisson", None, "GroupLasso", "own groups"),
    ]
    found += [Case("GLM", "Poisson", "exp", "Ridge", "", solver) for solver in SOLVERS]
    found += [
        Case("GLM", "Poisson", "exp", kind, "", solver)
        for solver in ("ProxNewton", "ProxSVRG")
        for kind in ("Lasso", "GroupLasso")
    ]
    found += [Case("PopulationGLM", "Bernoulli", None, "Ridge", "", name) for name in SOLVERS]
    found += [
        Case(classifiers[1], "", None, "Ridge", "", name) for name in ("Newton", "ProxNewton")
    ]
    drawn = [
        Case("PopulationGLM", family, None, kind, how, None, "laplace")
        for family, kind, how in (
            ("Poisson", "UnRegularized", ""), ("Gaussian", "Ridge", "mask"),
            ("Gamma", "Ridge", "weights"), ("Bernoulli", "Lasso", ""),
            ("NegativeBinomial", "ElasticNet", ""), ("Poisson", "GroupLasso", "offset"),
            ("Poisson", "GroupLasso", "groups that tie neurons"), ("Poisson", "Ridge", "pytree"),
            ("Gaussian", "UnRegularized", "auto"),
        )
    ]  # fmt: skip
    drawn += [
        Case("PopulationGLM", family, None, kind, how, None, "nuts")
        for family, kind, how in (
            ("Poisson", "Ridge", ""), ("Poisson", "Lasso", "missing rows"),
            ("Gaussian", "ElasticNet", ""), ("Gamma", "GroupLasso", ""),
            ("Bernoulli", "UnRegularized", "mask"), ("NegativeBinomial", "Ridge", "weights"),
        )
    ]  # fmt: skip
    drawn += [
        Case("GLM", "Gaussian", None, "Lasso", "", None, "nuts"),
        Case(classifiers[0], "", None, "UnRegularized", "", None, "laplace"),
        Case(classifiers[1], "", None, "Ridge", "", None, "nuts"),
        Case(classifiers[1], "", None, "Lasso", "mask", None, "laplace"),
    ]
    found += drawn
    assert len({str(case) for case in found}) == len(found)
    return {str(case): case for case in found}


def quick(names):
    """Return one of about twelve, draws among them."""
    return {name: case for i, (name, case) in enumerate(names.items()) if i % 12 == 5}


def estimator(case):
    """Return the estimator of a case."""
    classes = "Classifier" in case.face
    kind, strength = case.kind, STRENGTHS[case.kind]
    if case.how == "strengths":
        strength = strength * (1.0 + np.arange(D * NEURONS).reshape(D, NEURONS) / 5)
    if "group" in case.how:
        kind = nmo.regularizer.GroupLasso(mask=TIED if "tie" in case.how else OWN_GROUPS)
    family = case.family
    if case.how == "estimate":
        family = nmo.observation_models.NegativeBinomialObservations(scale="estimate")
    given = {"n_classes": CLASSES} if classes else {"observation_model": family}
    if case.how == "mask":
        given["feature_mask"] = MASK[..., None] * np.ones(CLASSES) if classes else MASK
    tol = TOL_32 if case.how == "float32" else TOL
    maxiter = 10_000 if "SVRG" not in str(case.solver) else 1_000
    return getattr(nmo.glm, case.face)(
        inverse_link_function=case.link, regularizer=kind, regularizer_strength=strength,
        solver_name=case.solver, solver_kwargs={"tol": tol, "maxiter": maxiter}, **given,
    )  # fmt: skip


def data(case):
    """Return X, y and the arguments that go with them."""
    y = LABELS if "Classifier" in case.face else RESPONSES[case.family]
    y = y if "Population" in case.face else y[:, 0]
    x, more = X, {}
    if "weights" in case.how:
        more["sample_weight"] = WEIGHT
    if "offset" in case.how:
        # Before the reciprocal only an offset that keeps the mean positive is in the model.
        size = 0.1 if case.family == "Gamma" else 1.0
        more["offset"] = size * np.abs(OFFSET)
    if "missing" in case.how:
        x = np.where((np.arange(N) % 17 == 3)[:, None], np.nan, x)
        if y.dtype == float:
            y = np.where((np.arange(N) % 13 == 5)[:, None], np.nan, y)
    if case.how == "float32":
        x, y = x.astype(np.float32), y.astype(np.float32) if y.dtype == float else y
    if "pytree" in case.how:
        x = {"a": x[:, :1], "b": x[:, 1:]}
    return x, y, more


def array(value):
    """Return numbers in whatever structure as one array in float64."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(value)]
    return leaves[0] if len(leaves) == 1 else np.concatenate([leaf.ravel() for leaf in leaves])


def results(case):
    """Return everything that a case is asked for, by name; texts where it warns or raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model, (X, y, more) = estimator(case), data(case)
            found = (drawn if case.method else fitted)(case, model, X, y, more)
        except Exception as error:  # what another version does not do is a difference, not an end
            found = {"error": f"{type(error).__name__}: {error}"[:200]}
    told = sorted({f"{each.category.__name__}: {str(each.message)[:60]}" for each in caught})
    found["warnings"] = "; ".join(told)
    return {
        name: value if isinstance(value, str) else array(value) for name, value in found.items()
    }


def fitted(case, model, X, y, more):
    """Return a fit, its scores, means and errors; for populations with default link and Ridge, a report."""
    model.fit(X, y, **more)
    offset = {"offset": more["offset"]} if "offset" in more else {}
    with jax.enable_x64(True):  # results in the precision that they have
        found = {"coef": model.coef_, "intercept": model.intercept_, "scale": model.scale_}
        found["dof_resid"] = model.dof_resid_
        found |= {kind: model.score(X, y, score_type=kind, **more) for kind in SCORES}
        found["predict"] = model.predict(X, **offset)
        found |= joint_density(case, model, X, y, more)
    for robust in (False, "HC1"):
        try:
            table = model.summary(X, y, robust=robust, **more)
            found[f"errors, robust={robust}"] = table["std_error"].to_numpy()
        except (ValueError, NotImplementedError) as error:
            found[f"errors, robust={robust}"] = str(error)[:60]
    if case.face == "PopulationGLM" and case.kind == "Ridge" and not case.how:
        found |= judged(model.report(X, y, **more))
    return found


def joint_density(case, model, X, y, more):
    """Return the log joint density at the fit, the dispersion being one; not at sums of zero in 32 bit."""
    if case.how == "float32":
        return {}
    params = {"coef": matrix(model.coef_), "intercept": np.asarray(model.intercept_)}
    if case.face == "GLM":
        params["intercept"] = params["intercept"][0]
    try:
        joint = model.numpyro_model(X, y, scale=1.0, **more)
        return {"log joint density": log_density(joint, (), {}, params)[0]}
    except ValueError as error:
        return {"log joint density": str(error)[:60]}


def judged(report, prefix=""):
    """Return the numbers and the verdicts of a report."""
    table = report.table
    numbers = table.drop(columns="verdict").sort_index(axis=1).sort_index()
    return {
        f"{prefix}report": numbers.to_numpy(float),
        f"{prefix}verdict": f"{report.verdict}: {sorted(table['verdict'].items())}",
    }


def drawn(case, model, X, y, more):
    """Return draws, their densities, leave-one-out and a report."""
    prior = {"prior": "auto"} if case.how == "auto" else {}
    model.sample_posterior(
        X, y, method=case.method, num_samples=DRAWS, num_chains=CHAINS, num_warmup=50,
        random_key=5, progress_bar=False, **more, **prior,
    )  # fmt: skip
    tree, found = model.posterior_, {}
    for group in ("posterior", "log_prior"):
        if group in tree.children:
            found |= {f"draws of {group}: {k}": v.values for k, v in tree[group].data_vars.items()}
    found["draws of lp"] = tree["sample_stats"]["lp"].values
    many = "Population" in case.face
    loo = model.loo(X, y, **({"by_neuron": True} if many else {}), **more)
    found["given draws: loo"] = np.array([each.elpd for each in (loo.values() if many else [loo])])
    return found | judged(model.report(X, y, **more), "given draws: ")


def matrix(coef):
    """Return coefficients of a pytree as of one matrix."""
    return np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(coef)])


class Difference(NamedTuple):
    """What two versions differ by in one quantity of one case."""

    case: str
    quantity: str
    size: float
    unit: str
    limit: float

    @property
    def beyond(self):
        """Whether it is more than it may be (or not a number)."""
        return not self.size <= self.limit


def relative(a, b):
    """Largest difference, relative to the largest number; infinite where shapes or missing values differ."""
    if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return np.inf
    keep = np.isfinite(a)
    if not np.array_equal(a[~keep], b[~keep], equal_nan=True):
        return np.inf
    return float(np.max(np.abs(a - b)[keep], initial=0.0) / np.max(np.abs(a)[keep], initial=1e-12))


def in_errors(before, now):
    """Differences of coefficients and intercepts, in the standard errors that were."""
    both = [np.concatenate([f["coef"].ravel(), f["intercept"].ravel()]) for f in (before, now)]
    if both[0].shape != both[1].shape or np.isnan(both[0] - both[1]).any():
        return np.inf
    unit = before.get("errors, robust=False")
    whole = isinstance(unit, np.ndarray) and unit.dtype == float and unit.shape == both[0].shape
    unit = unit if whole else np.zeros(both[0].shape)
    unit = np.where(np.isfinite(unit) & (unit > 0), unit, N**-0.5)
    return float(np.max(np.abs(both[0] - both[1]) / unit))


def in_monte_carlo_errors(a, b):
    """Largest difference of means and standard deviations of draws (chains, draws, ...), in Monte Carlo errors."""
    if a.shape != b.shape:
        return np.inf
    sizes = [np.clip(effective_sample_size(each), 4.0, CHAINS * DRAWS) for each in (a, b)]
    share = 1.0 / sizes[0] + 1.0 / sizes[1]
    sd = np.maximum(a.std(axis=(0, 1)), 1e-300)
    of_mean = (a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) / sd / np.sqrt(share)
    # The variance of a standard deviation's log is (kurtosis - 1) / 4n: 1/2n for normal draws, 5/4n for Laplace's.
    of_sd = np.log(np.maximum(b.std(axis=(0, 1)), 1e-300) / sd) / np.sqrt(1.25 * share)
    moves = a.std(axis=(0, 1)) > 0
    return float(np.nanmax(np.abs(np.stack([of_mean, of_sd]))[:, moves], initial=0.0))


def compare(case, before, now, limit):
    """Return the differences of a case, and how equal its draws are ("" where there are none)."""
    name, found, draws = str(case), [], ""
    limit = LIMIT_32 if case.how == "float32" else limit
    keys = [key for key in before if key.startswith("draws")]
    if keys and all(key in now for key in keys):
        draws = "to the bit" if all(np.array_equal(before[k], now[k]) for k in keys) else ""
        close = all(relative(before[key], now[key]) <= limit for key in keys)
        draws = draws or (f"to {limit:g}" if close else "in distribution only")
    for key in sorted(before.keys() | now.keys()):
        a, b = before.get(key, "nothing"), now.get(key, "nothing")
        if isinstance(a, str) or isinstance(b, str):
            found.append(
                Difference(name, key, 0.0 if np.array_equal(a, b) else np.inf, "text", 0.0)
            )
        elif key == "coef":
            found.append(Difference(name, key, in_errors(before, now), "std. errors", limit))
        elif draws == "in distribution only" and key.startswith("draws"):
            size = in_monte_carlo_errors(a, b)
            found.append(Difference(name, key, size, "MC errors", LIMIT_ERRORS))
        elif key != "intercept":
            follows = draws == "in distribution only" and key.startswith("given draws")
            most = np.inf if follows else limit
            found.append(Difference(name, key, relative(a, b), "relative", most))
    if draws == "in distribution only":  # texts follow the draws
        found = [
            each for each in found if each.unit != "text" or "given draws" not in each.quantity
        ]
    return found, draws


def write(path, names):
    """Compute the cases and write their results; print what warns or fails."""
    kept = {}
    for name, case in names.items():
        found = results(case)
        kept |= {f"{name}|{key}": value for key, value in found.items()}
        if found.get("error") or found["warnings"]:
            print(f"{name}: {found.get('error', '')} {found['warnings']}", flush=True)
    np.savez_compressed(path, **kept)


def read(path):
    """Return the results of each case of a file."""
    found = {}
    with np.load(path, allow_pickle=False) as kept:
        for key in kept.files:
            name, _, quantity = key.partition("|")
            value = kept[key]
            found.setdefault(name, {})[quantity] = value if value.dtype.kind != "U" else str(value)
    return found


def report(differences, draws):
    """Print the largest difference of each quantity, how equal draws are, and every case beyond its limit."""
    print(f"{'quantity':<36}{'cases':>6}  {'largest':>10}  {'unit':<12}case")
    groups = {}
    for each in differences:
        groups.setdefault((each.quantity, each.unit), []).append(each)
    for (quantity, unit), members in sorted(groups.items()):
        worst = max(members, key=lambda each: np.nan_to_num(each.size, nan=np.inf))
        name = worst.case if worst.size > 0 else ""
        print(f"{quantity:<36}{len(members):>6}  {worst.size:>10.3g}  {unit:<12}{name}")
    counts = {kind: list(draws.values()).count(kind) for kind in sorted(set(draws.values()))}
    print(
        "draws are equal", ", ".join(f"{kind}: {count}" for kind, count in counts.items() if kind)
    )
    for name, kind in draws.items():
        if kind == "in distribution only":
            print(f"  in distribution only: {name}")
    beyond = [each for each in differences if each.beyond]
    print(f"\n{len(beyond)} beyond the limit")
    for each in beyond:
        print(
            f"  {each.case}: {each.quantity} by {each.size:.3g} ({each.unit}, limit {each.limit:g})"
        )
    return beyond


def main(argv=None):
    """Write or compare; the exit status says whether a case is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", metavar="FILE.npz", help="compute and keep")
    what.add_argument(
        "--compare", metavar="FILE.npz", help="compute and compare with what was kept"
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="largest difference allowed")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--quick", action="store_true", help="one case of twelve")
    asked = parser.parse_args(argv)
    names = {name: case for name, case in cases().items() if asked.only in name}
    names = quick(names) if asked.quick else names
    begin = time.perf_counter()
    print(f"bayesglm of {nmo.__file__}: {len(names)} cases")
    if asked.write:
        write(asked.write, names)
        beyond = []
    else:
        kept, differences, draws = read(asked.compare), [], {}
        for name in [name for name in names if name in kept]:
            found, draws[name] = compare(names[name], kept[name], results(names[name]), asked.limit)
            differences += found
        beyond = report(differences, draws)
        missing = names.keys() - kept.keys()
        print(f"{len(missing)} cases are not in the file:", ", ".join(sorted(missing)))
    print(f"{time.perf_counter() - begin:.0f} s")
    return int(bool(beyond))


if __name__ == "__main__":
    raise SystemExit(main())
