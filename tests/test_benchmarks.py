"""The benchmark: its script runs, and every peer is told the same objective."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import clocks, designs, map, objective, peers, processes, rows, search, table
from reference import Problem as Textbook

N = 200


def small(penalty="Ridge", n_responses=2):
    return designs.problem("iid", N, 4, penalty, n_responses, rate=0.5)


def small_groups():
    problem = designs.problem("iid", N, 4, "Lasso", rate=0.5)
    return replace(problem, penalty="GroupLasso", groups=(np.arange(2), np.arange(2, 4)))


def small_digits():
    problem = designs.digits(N)
    return replace(problem, X=problem.X[:, 20:44:8].copy())


PROBLEMS = {
    "Ridge": small(),
    "Lasso": small("Lasso"),
    "GroupLasso": small_groups(),
    "softmax": small_digits(),
}


@pytest.mark.parametrize("name", ["Ridge", "Lasso", "GroupLasso"])
def test_the_reference_is_the_textbook_optimum(name):
    problem = PROBLEMS[name]
    coef, intercept, value = objective.optimum(problem)
    for k, y in enumerate(problem.columns):
        groups = [np.isin(np.arange(4), group)[:, None] for group in problem.groups] or None
        textbook = Textbook("Poisson", "exp", problem.X, y, name, problem.strength, groups=groups)
        theta = textbook.theta(coef[:, [k]], intercept[[k]])
        # Both are Newton's method in float64, up to the log-factorial that neither has.
        assert textbook.distance(theta, textbook.stationary_point(theta)) < 1e-5
        assert value[k] == pytest.approx(textbook.value(theta), rel=1e-12)


def test_the_reference_of_a_softmax_is_stationary():
    problem = PROBLEMS["softmax"]
    coef, intercept, [value] = objective.optimum(problem)
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = 1e-4 * rng.normal(size=(len(coef) + 1, 10))
        ahead, behind = (
            problem.value(coef + s * step[:-1], intercept + s * step[-1])[0] for s in (1, -1)
        )
        # A stationary point of a convex function: the slope is rounding, and both sides go up.
        assert abs(ahead - behind) / 2e-4 < 1e-7
        assert min(ahead, behind) > value


CASES = [
    # skglm compiles for many seconds.
    pytest.param(entry, name, marks=[pytest.mark.slow] if entry.package == "skglm" else [])
    for entry, name in itertools.product(peers.ENTRIES, PROBLEMS)
    if entry.can(PROBLEMS[name]) and (entry.package != "bayesglm" or entry.label == "bayesglm")
]


@pytest.mark.oracle
@pytest.mark.parametrize(("entry", "name"), CASES, ids=lambda x: getattr(x, "label", x))
def test_every_peer_minimises_the_one_objective(entry, name):
    if not entry.installed:
        pytest.skip(f"{entry.label} is not installed")
    problem = PROBLEMS[name]
    best = objective.optimum(problem)[2]
    found = clocks.search(entry, problem, best, 1e-8, 60.0)
    # A strength that is off by a factor of 1.01 is seen at this gap.
    assert found["reached"], found
    assert found["gap"] > -1e-12


@pytest.mark.parametrize("name", ["Ridge", "Lasso", "softmax"])
def test_a_wrong_strength_is_seen(name):
    problem = PROBLEMS[name]
    coef, intercept, _ = objective.optimum(replace(problem, strength=1.1 * problem.strength))
    best = objective.optimum(problem)[2]
    assert objective.gap(problem.value(coef, intercept), best) > 1e-8


def tiny_row():
    return rows.Row(
        "tiny", lambda settings: small(n_responses=4), ("sklearn lbfgs",), 1.0, checked=2
    )


def test_a_row_gives_a_table(tmp_path):
    result = rows.run(tiny_row(), rows.Settings(repeats=1))
    result = json.loads(json.dumps(result))  # what goes from process to process
    ours, peer = (result["entries"][label] for label in ("bayesglm", "sklearn lbfgs"))
    assert ours["reached"]
    assert peer["reached"]
    assert result["warm_compiles"] == 0
    assert peer["extrapolated"]
    assert peer["seconds"] == pytest.approx(2 * np.median(peer["times"]))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.insert(page, table.render({"small-ridge": result}, table.machine(2)))
    text = page.read_text()
    assert "| tiny |" in text
    assert "old" not in text
    assert text.startswith("before")
    assert text.endswith("after\n")


def test_who_is_not_installed_is_said():
    entry = replace(peers.ENTRIES[0], package="a_package_that_nobody_has")
    result = rows._found(entry, small(), np.zeros(2), 1e-6, rows.Settings())
    assert not result["reached"]
    assert table._cell(result) == "not installed"


def test_who_fails_or_is_slow_is_said():
    def fail(problem, tol):
        raise ValueError("no")

    def wait(problem, tol):
        while True:
            pass

    entry = peers.ENTRIES[0]
    assert "no" in clocks.search(replace(entry, fit=fail), small(), np.zeros(2), 1e-6, 9)["note"]
    slow = clocks.search(replace(entry, fit=wait), small(), np.zeros(2), 1e-6, 0.05)
    assert "stopped" in table._cell(slow)


def test_refits_compile_nothing():
    result = processes.refits(rows.Settings(scale=0.01))
    assert result["later_compiles"] == 0


def test_a_search_is_timed_beside_a_fit_and_a_grid_search_with_its_choice(capsys):
    search.main(
        ["--rows", "200", "--features", "4", "--folds", "2", "--strengths", "3", "--repeats", "1"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["Ridge", "Lasso"]
    assert all(float(line.split("|")[4]) > 0 for line in lines[2:])


def test_the_rows_of_the_script_exist():
    assert set(map.TIMED) == set(rows.ROWS)
    assert set(map.APART) == set(processes.PROCESSES)
    assert map.selected(map.parse(["--disk", "folder"]))[-1] == "disk"


def test_history_features_are_causal():
    spikes = np.zeros((50, 2))
    spikes[20, 0] = 1.0
    features = designs.history(spikes, 3, window=10)
    basis = designs.raised_cosines(10, 3)
    assert not features[:21].any()
    assert not features[:, 3:].any()
    np.testing.assert_allclose(features[21:31, :3], basis, atol=1e-15)


def test_memory_and_compile_meters_see_something():
    import jax

    with clocks.Peak() as peak, clocks.compiles() as seen:
        ballast = np.ones(4_000_000)
        jax.jit(lambda x: x * 3.7 + 1.1)(ballast[:13]).block_until_ready()
    assert peak.above_start >= 30_000_000
    assert len(seen) >= 1


def test_the_page_has_the_markers():
    page = Path(__file__).parents[1] / "docs" / "performance.md"
    text = page.read_text(encoding="utf-8")
    assert re.search(f"{table.BEGIN}.*{table.END}", text, re.DOTALL)
