"""The documented interface, held against the package and against what the documentation says of it."""

import inspect
import re
from pathlib import Path

import documented
import pytest

import bayesglm as nmo

ROOT = Path(__file__).resolve().parents[1]
ROWS = documented.rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.documented.partition("(")[0])
def test_a_documented_call_means_the_same_here_or_a_reason_says_why_not(row):
    """A reason is for what it names: one argument, those of a solver, or a name that is missing altogether."""
    if row.key is None:
        assert not row.differs, f"{row.documented}: here {row.here}"
    elif row.key in ("kwargs", "scale", "force_checks"):
        assert row.differs == {row.key}, f"{row.documented}: here {row.here}"
    elif row.key == "arguments":
        assert row.differs, f"{row.documented} is the same here: it needs no reason"
        assert "missing" not in row.differs
    else:
        assert row.differs == {"missing"}, f"{row.documented}: here {row.here}"
        assert not row.ours, "some of the names are here: split the line"


def test_every_reason_is_used_and_is_in_the_documentation():
    assert {row.key for row in ROWS} - {None} == set(documented.REASONS)
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "differences.md").read_text(encoding="utf-8"))
    missing = [reason for reason in documented.REASONS.values() if reason not in page]
    assert not missing


def test_the_page_is_the_list():
    page = (ROOT / "docs" / "interface.md").read_text(encoding="utf-8")
    assert page == documented.page(), "python -m tests.documented > docs/interface.md"


def test_the_list_is_read_as_it_is_meant():
    """A comparison that accepts everything would prove nothing."""

    def ours(a, b=1.0, *, c="x", d=None): ...

    for same in ("(a, b=1.0)", "(a, b=1)", "(a, b=1.0, *, c='x')", "(a, *, b=1.0, d=None)"):
        assert not documented.not_served(same, ours), same
    for other in (
        "(b, a)", "(x, b=1.0)", "(a, b=2.0)", "(a, b=1.0, c='x')", "(a, *args)", "(a, **more)",
        "(*, b=1.0)", "(a, *, c='y')",
    ):  # fmt: skip
        assert documented.not_served(other, ours), other


def test_documented_links_are_known_by_their_documented_names():
    names = [
        "exp",
        "expit",
        "logistic",
        "softplus",
        "identity",
        "log_softmax",
        "one_over_x",
        "norm.cdf",
    ]
    dotted = [
        "jax.numpy.exp", "jax.nn.softplus", "jax.lax.logistic", "jax.scipy.special.expit",
        "jax.scipy.stats.norm.cdf", "jax.nn.log_softmax", "nemos.utils.one_over_x",
    ]  # fmt: skip
    ours = ("exp", "expit", "logistic", "norm_cdf", "one_over_x", "softplus", "log_softmax")
    dotted += [f"nemos.inverse_link_function_utils.{name}" for name in ours]
    for name in names + dotted:
        assert callable(nmo.links.resolve(name)), name


def test_parameters_are_listed_under_the_documented_names():
    for kind, extra in ((nmo.glm.GLM, set()), (nmo.glm.PopulationGLM, {"feature_mask"})):
        documented_names = {
            "inverse_link_function", "observation_model", "regularizer", "regularizer_strength",
            "solver_kwargs", "solver_name",
        }  # fmt: skip
        assert set(kind().get_params(deep=False)) == documented_names | extra
        assert set(inspect.signature(kind).parameters) == documented_names | extra
