"""What the package declares is what it imports; `tests/smoke.py` runs where nothing else is installed."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

# Distributions whose modules have other names; ArviZ brings three.
MODULES = {
    "scikit-learn": {"sklearn"},
    "arviz": {"arviz", "arviz_base", "arviz_stats", "arviz_plots"},
}
# Declared without being imported by name, and why.
NEVER_IMPORTED = {
    "jaxlib": "what JAX computes with",
    "arviz_base": "the data structures of arviz_stats and arviz_plots",
    "h5netcdf": "xarray imports it, for `posterior_.to_netcdf`",
}
# What the benchmarks compare with: said by them, where it is missing.
PEERS = {"bambi", "glum", "nemos", "skglm", "threadpoolctl"}


def modules(requirements):
    """Return the names under which requirements are imported."""
    found = set()
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        found |= MODULES.get(name, {name.replace("-", "_")})
    return found


def imported(path):
    """Return the first parts of the third-party names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"bayesglm"}


def all_imported(folder, without=()):
    paths = [ROOT / folder] if (ROOT / folder).is_file() else (ROOT / folder).rglob("*.py")
    return set().union(*(imported(path) for path in paths)) - set(without)


CORE = modules(PROJECT["dependencies"])
OWN_TESTS = {path.stem for path in (ROOT / "tests").iterdir()}  # files, and packages of files


@pytest.mark.parametrize(
    ("folder", "extras", "without"),
    [
        ("bayesglm", ["pynapple"], ()),
        ("examples", ["examples"], ()),
        ("docs/conf.py", ["docs"], ()),
        ("tests", ["test"], OWN_TESTS | PEERS),
    ],
)
def test_what_is_imported_is_declared(folder, extras, without):
    declared = CORE.union(*(modules(EXTRAS[extra]) for extra in extras))
    assert all_imported(folder, without) <= declared


def test_optional_packages_are_imported_late():
    """At the head of a file would be at `import bayesglm`."""
    for path in (ROOT / "bayesglm").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            source = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert "pynapple" not in source, path


def test_what_is_declared_is_imported_or_has_a_reason():
    assert CORE - all_imported("bayesglm") - {"arviz"} == set(NEVER_IMPORTED)


def test_what_only_a_search_needs_is_imported_when_one_is_asked_for():
    script = """
import sys
import bayesglm as nmo
assert "sklearn.model_selection" not in sys.modules
assert nmo.model_selection.StrengthSearchCV and "sklearn.model_selection" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
