"""Line searches that share their passes: each lane ends where a search alone would, low and flat enough."""

import numpy as np
import pytest

from bayesglm.solvers import _line

#: Functions along a line and their derivatives; all go down at zero, most are badly scaled for a first step of one.
FUNCTIONS = {
    "parabola": (lambda t: (t - 1.0) ** 2, lambda t: 2.0 * (t - 1.0)),
    "far": (lambda t: (1e-4 * t - 1.0) ** 2, lambda t: 2e-4 * (1e-4 * t - 1.0)),
    "near": (lambda t: (1e5 * t - 1.0) ** 2, lambda t: 2e5 * (1e5 * t - 1.0)),
    "overflow": (lambda t: np.exp(2e3 * t) - 4e3 * t, lambda t: 2e3 * np.exp(2e3 * t) - 4e3),
    "flat tail": (
        lambda t: np.logaddexp(0, -t) + 1e-3 * t**2,
        lambda t: 2e-3 * t - 1 / (1 + np.exp(t)),
    ),
    "not convex": (lambda t: -np.sin(t) - 0.1 * t, lambda t: -np.cos(t) - 0.1),
    "domain": (lambda t: -np.log(0.3 - t) - 9.0 * t, lambda t: 1 / (0.3 - t) - 9.0),
}


def search(names, left, noise=1e-15, most=60, **how):
    """Search along all functions at once; return lengths, numbers of trials and failures."""
    values = lambda i, t: np.array([FUNCTIONS[n][i](t[k]) for k, n in enumerate(names)])  # noqa: E731
    zero = np.zeros(len(names))
    line = _line.start_of(values(1, zero), 1.0)
    found, trials = np.full(len(names), np.nan), np.zeros(len(names), int)
    failed = np.zeros(len(names), bool)
    with np.errstate(all="ignore"):
        for _ in range(most):
            change, slope = values(0, line.t) - values(0, zero), values(1, line.t)
            open_ = np.isnan(found) & ~failed
            good, lost, new = _line.decide(line, change, slope, noise=noise, left=left, **how)
            trials += open_
            found = np.where(open_ & good, line.t, found)
            failed |= open_ & lost
            line = new
    return found, trials, failed


@pytest.mark.parametrize("left", [0.9, 0.5, 0.1])
def test_every_search_ends_low_and_flat_enough(left):
    names = list(FUNCTIONS)
    found, trials, failed = search(names, left)
    assert not failed.any()
    for name, t, count in zip(names, found, trials, strict=True):
        value, slope = FUNCTIONS[name]
        assert value(t) < value(0.0), name
        assert abs(slope(t)) <= left * abs(slope(0.0)), name
        assert count <= 20, name


def test_a_search_before_a_wall_goes_far_enough():
    """The slope gets steeper up to where the value jumps: there is nowhere flat to end."""
    wall = (lambda t: -t - t**2 if t < 0.3 else 1e9, lambda t: -1.0 - 2.0 * t if t < 0.3 else 1e9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FUNCTIONS, "wall", wall)
        found, trials, failed = search(["wall"], 0.5)
    assert not failed.any()
    assert 0.1 < found[0] < 0.3
    assert trials[0] <= 16


def test_lanes_do_not_see_each_other():
    together = search(list(FUNCTIONS), 0.3)
    for k, name in enumerate(FUNCTIONS):
        alone = search([name], 0.3)
        assert [part[0] for part in alone] == [part[k] for part in together]


def test_a_longest_step_is_taken_where_it_still_goes_down():
    (t,), _, _ = search(["far"], 0.1, longest=1.0)
    assert t == 1.0


def test_no_way_down_fails_at_once():
    line = _line.start_of(np.array([0.0, 1.0, -1.0]), 1.0)
    good, failed, _ = _line.decide(
        line, np.array([1.0, 1.0, -1.0]), np.array([1.0, 1.0, 0.0]), noise=0.0
    )
    assert good.tolist() == [False, False, True]
    assert failed.tolist() == [True, True, False]


def test_gains_below_rounding_are_taken():
    # the value is all rounding here, and so is the slope
    line = _line.start_of(np.array([-1e-18]), 1.0)
    good, _, _ = _line.decide(line, np.array([1e-16]), np.array([5e-18]), noise=1e-15)
    assert good.all()
