"""The examples run as scripts do, without a warning, and show what they say they show."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name, folder):
    """Run an example in a folder; return what its `main` returns."""
    value = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](folder)
    picture = Path(folder, f"{name}.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    return value


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 120, path.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, within ArviZ
def test_doctor_visits_prefer_the_negative_binomial(tmp_path):
    models, comparison, report = run("doctor_visits", tmp_path)
    assert comparison.index[0] == "NegativeBinomial"
    assert comparison["elpd"].iloc[0] - comparison["elpd"].iloc[1] > 1000
    assert models["NegativeBinomial"].summary()["r_hat"].max() < 1.05
    assert report.verdict in ("OK", "CAUTION")


@pytest.mark.slow
def test_intervals_of_the_filters_cover_the_truth(tmp_path):
    model, covered = run("spike_trains", tmp_path)
    # 80 coefficients, those of a filter correlated: the share in a 90% interval scatters by 0.03 to 0.05
    assert 0.75 < covered <= 1.0
    assert model.summary()["r_hat"].max() < 1.05


@pytest.mark.slow
def test_averaging_over_the_posterior_helps_under_a_wide_prior(tmp_path):
    scores = run("digits", tmp_path)
    widest = scores[max(scores)]
    assert widest["posterior average"][0] < widest["at the fit"][0]
    assert all(np.isfinite(value[0]) for score in scores.values() for value in score.values())


@pytest.mark.slow
def test_grid_search_finds_a_strength_inside_the_grid(tmp_path):
    found = run("pipeline", tmp_path)
    strengths = found.param_grid["glm__regularizer_strength"]
    assert min(strengths) < found.best_params_["glm__regularizer_strength"] < max(strengths)
    # of the same shape as the truth: a peak at the field, well above the rest
    rate = np.asarray(found.predict(np.array([[0.3], [0.5]])))
    assert rate[0] > 2 * rate[1]
