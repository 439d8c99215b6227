"""Laws of input, settings and files, over generated cases: the same ones in every run."""

import containers
import generated
import pytest
from hypothesis import HealthCheck, given, settings
from studies import generated as study


@pytest.mark.parametrize("name", generated.LAWS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of h5netcdf
def test_generated_cases_keep_the_law(name):
    law = generated.LAWS[name]
    seen = []

    @settings(
        max_examples=law.count, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(law.cases())
    def check(case):
        seen.append(case)
        law.check(case)

    check()
    assert len(seen) >= law.count


PLAIN = generated.Held(
    "PopulationGLM", "Poisson", "Ridge", "quarters", "matrix", "float64", "float64", 0.0, "float64", 0.1, "rows",
    "float64", "cells", "float64", None, "strings", 1,
)  # fmt: skip


@pytest.mark.parametrize("name", generated.ways())
def test_the_container_of_numbers_does_not_matter(name):
    values = {"whole": containers.WHOLE, "truths": containers.TRUTHS}
    kind = next((kind for kind, table in values.items() if name in table), "quarters")
    case = PLAIN._replace(values=kind, features=name, more_features=name)
    if kind == "quarters":
        case = case._replace(holes=0.02, responses=name, weights=name, offsets=name)
    generated.check_held(case)


@pytest.mark.parametrize("name", containers.LABELS | containers.COMPLETE_LABELS)
def test_the_container_of_labels_does_not_matter(name):
    case = PLAIN._replace(face="ClassifierGLM", family="Categorical", responses=name)
    missing = 0.1 if name in containers.LABELS else 0.0
    generated.check_held(case._replace(missing=missing))


def test_there_are_two_thousand_cases():
    assert sum(law.count for law in generated.LAWS.values()) >= 2000


def test_the_study_counts_cases_and_finds_what_breaks_a_law(monkeypatch):
    def broken(case):
        if case.face == "GLM":
            raise ArithmeticError("wrong for one neuron")

    law = generated.LAWS["damaged fits"]
    monkeypatch.setitem(generated.LAWS, "damaged fits", law._replace(check=broken))
    found = study.run("damaged fits", 60, seed=1)
    assert found.count == 60
    (failure,) = found.failures
    assert failure.kind.startswith("ArithmeticError: wrong for one neuron")
    assert 0 < failure.count < 60
    assert "face='GLM'" in failure.example
    assert "wrong for one neuron" in study.table([found])
