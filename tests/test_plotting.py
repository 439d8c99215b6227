"""Pictures show the numbers that they say they show, and refuse what they cannot draw."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from bayesglm import plotting

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def spikes(rng):
    rate = np.exp(rng.normal(size=5000) - 2.5)
    return rng.poisson(rate).astype(float), rate


def line(ax, k=-1):
    return np.array(ax.lines[k].get_data(), float)


def test_each_function_returns_the_axes_it_was_given(spikes):
    y, rate = spikes
    table = pd.DataFrame(
        {"mean": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["a", "b"]
    )
    calls = {
        "calibration": spikes, "residuals": spikes, "time_rescaling": spikes,
        "ecdf_difference": (rate / rate.max(),), "coefficients": (table,), "neurons": (rate[:5],),
    }  # fmt: skip
    assert set(calls) == set(plotting.__all__)
    for name, arguments in calls.items():
        ax = plt.subplots()[1]
        assert getattr(plotting, name)(*arguments, ax=ax) is ax
        assert ax.has_data()
        assert isinstance(getattr(plotting, name)(*arguments), Axes)


def test_calibrated_means_lie_on_the_line_and_others_do_not(spikes):
    y, rate = spikes
    for factor in (1.0, 2.0):
        bars = plotting.calibration(y, factor * rate).containers[0]
        expected, observed = np.array(bars.lines[0].get_data(), float)
        assert len(expected) <= 10
        np.testing.assert_allclose(observed.mean(), expected.mean() / factor, rtol=0.15)


def test_curves_of_the_truth_stay_in_their_band_and_those_of_a_wrong_rate_leave_it(spikes):
    y, rate = spikes
    for right, scale in ((True, 1.0), (False, 1.5)):
        difference = line(plotting.residuals(y, scale * rate))[1]
        reach = np.sqrt(np.log(200) / (2 * len(y)))  # Dvoretzky, Kiefer, Wolfowitz at 99 %
        assert (abs(difference).max() < reach) == right
        x, distribution = line(plotting.time_rescaling(y, scale * rate))
        assert (abs(distribution - x).max() < np.sqrt(np.log(200) / (2 * (y > 0).sum()))) == right


def test_bad_input_is_refused(spikes):
    y, rate = spikes
    with pytest.raises(ValueError, match="one length"):
        plotting.calibration(y[:10], rate)
    with pytest.raises(ValueError, match="one neuron"):
        plotting.residuals(np.stack([y, y]), np.stack([rate, rate]))
    with pytest.raises(ValueError, match="finite"):
        plotting.time_rescaling(np.where(y > 0, np.nan, y), rate)
    with pytest.raises(ValueError, match="observation model|Unknown|unknown"):
        plotting.calibration(y, rate, observation_model="Weibull")
