"""Use everything once, where only the package and what it declares is installed.

Run as a script, ``python tests/smoke.py [EXTRA ...]``, beside an installed package and without pytest: it fails with
the first import that is not declared. Warnings are errors.
"""

import ast
import importlib
import pkgutil
import sys
import tempfile
import warnings
from pathlib import Path

import jax
import numpy as np

import bayesglm as nmo

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
y = rng.poisson(np.exp(0.3 * X))


def core(folder):
    """Import every module; fit, sample, save, load, summarise, check and report; draw a picture."""
    for module in pkgutil.walk_packages(nmo.__path__, "bayesglm."):
        importlib.import_module(module.name)
    nmo.enable_compilation_cache(folder / "programs")
    model = nmo.glm.PopulationGLM(regularizer="Ridge", regularizer_strength=0.1)
    assert np.isfinite(model.fit(X, y).score(X, y))
    assert model.predict(X).shape == model.simulate(jax.random.key(0), X)[0].shape == y.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of so few draws
        model.sample_posterior(X, y, num_samples=25, num_warmup=25, progress_bar=False)
    _files(model, folder)
    assert np.isfinite(model.summary()["mean"]).all()
    assert np.isfinite(model.loo(X, y).elpd).all()
    report = model.report(X, y)
    for suffix in (".html", ".json"):
        report.save(folder / f"report{suffix}")
    nmo.plotting.coefficients(model.summary())


def _files(model, folder):
    """Parameters and draws come back from files."""
    model.save_params(folder / "model.npz")
    model.posterior_.to_netcdf(folder / "draws.nc")
    loaded = nmo.load_model(folder / "model.npz")
    loaded.posterior_ = folder / "draws.nc"
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    loaded.posterior_.to_netcdf(folder / "draws.nc")  # over the file that it was read from
    nmo.inspect_npz(folder / "model.npz")


def pynapple(folder):
    """Time series in, time series out."""
    import pynapple as nap

    frame, counts = nap.TsdFrame(np.arange(60.0), X), nap.Tsd(np.arange(60.0), y[:, 0])
    found = nmo.glm.GLM().fit(frame, counts).predict(frame)
    assert isinstance(found, nap.Tsd)


def docs(folder):
    """The documentation is built: by Sphinx and what its configuration names."""
    for name in ("sphinx", "myst_parser", "furo"):
        importlib.import_module(name)


def examples(folder):
    """Each finds what it imports."""
    for path in (Path(__file__).resolve().parents[1] / "examples").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(ast.unparse(node), {})


EXTRAS = {"pynapple": pynapple, "docs": docs, "examples": examples}


def main(extras):
    """Run the extras named, or the core without one."""
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for step in [EXTRAS[extra] for extra in extras] or [core]:
            step(Path(folder))
            print(f"{step.__name__}: ok")


if __name__ == "__main__":
    main(sys.argv[1:])
