"""What an estimator says beside its draws: the mode, and the warnings of the fit."""

import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import tables
from numpyro.infer.util import log_density

import bayesglm as nmo

X = tables.X
QUIET = {"progress_bar": False}

WITH_INTERCEPT = [
    ("Poisson", "Lasso"), ("Gaussian", "Lasso"), ("Gamma", "ElasticNet"), ("Bernoulli", "GroupLasso"),
    ("Gaussian", "Ridge"), ("Gaussian", "auto"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), WITH_INTERCEPT)
def test_the_fit_beside_draws_is_the_mode_of_the_joint_density_given_its_dispersion(
    name, kind, rng
):
    """Also under priors that `fit` alone does not know; and that dispersion is the posterior median."""
    y, few = tables.RESPONSES[name][:40], {"num_samples": 25, "method": "laplace", **QUIET}
    how = {"prior": "auto"} if kind == "auto" else {"intercept_prior": dist.Normal(-1.0, 0.2)}
    penalty = "UnRegularized" if kind == "auto" else kind
    model = nmo.glm.PopulationGLM(
        name, "exp" if name == "Gamma" else None, penalty, tables.REGULARIZERS[penalty]
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*k-hat")
        model.sample_posterior(X[:40], y, **how, **few)
    scale = None
    if "scale" in model.posterior_["posterior"]:
        scale = np.asarray(model.scale_, float)
        draws = model.posterior_["posterior"]["scale"].values
        np.testing.assert_allclose(scale, np.median(draws, axis=(0, 1)), rtol=1e-3)
    with jax.enable_x64(True):
        coef = np.asarray(model.coef_)
        at = {"coef": coef, "intercept": np.asarray(model.intercept_)}
        joint = model.numpyro_model(
            X[:40], y, **how, **({} if scale is None else {"scale": np.asarray(model.scale_)})
        )
        density = jax.jit(lambda params: log_density(joint, (), {}, params)[0])
        best = float(density(at))
        for _ in range(60):
            # single coefficients off or on, and steps everywhere; of a hundredth of a standard error and more
            size = 10 ** rng.uniform(-3, -1)
            mask = rng.uniform(size=coef.shape) < rng.choice([0.1, 1.0])
            step = size * rng.normal(size=coef.shape) * mask
            ends = size * rng.normal(size=3) * rng.integers(0, 2)
            assert (
                float(density({"coef": coef + step, "intercept": at["intercept"] + ends})) <= best
            )


def test_what_the_fit_warns_of_is_told_by_sampling_too():
    y = tables.RESPONSES["Poisson"][:40, 0]
    model = nmo.glm.GLM(
        "Poisson", None, "Lasso", 0.03, "ProximalGradient", {"maxiter": 1, "tol": 1e-12}
    )
    with pytest.warns(RuntimeWarning, match="did not converge") as told:
        model.sample_posterior(X[:40], y, num_samples=25, method="laplace", **QUIET)
    kept = model.posterior_["posterior"].attrs["fit_warnings"]
    assert kept == str(told[0].message)
    assert told[0].filename == __file__
    model = nmo.glm.GLM("Poisson", None, "Lasso", 0.03)
    model.sample_posterior(X[:40], y, num_samples=25, method="laplace", **QUIET)
    assert model.posterior_["posterior"].attrs["fit_warnings"] == ""
