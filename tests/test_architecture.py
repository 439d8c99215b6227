"""The layers of the package: who may import whom, and where the joint density is written."""

import ast
import importlib
import inspect
from collections import Counter
from graphlib import TopologicalSorter
from types import FunctionType

import pytest
from structure.count import private_names
from structure.sources import ROOT, Package, layer

MAX_LINES = 500
#: Files of tests that are longer still; one that no longer is has to leave the list.
LONG_TESTS = {"test_observation_models.py"}

# A module imports only from those before it; the modules of a package (`solvers`, `glm`) may import
# one another. `bayesglm/__init__.py` stands after all of them.
LAYERS = (
    "_progress",
    "_process",
    "_messages",
    "_input",
    "_design",
    "_memory",
    "_component",
    "links",
    "distributions",
    "_likelihood",
    "_families",
    "observation_models",
    "prior",
    "regularizer",
    "labels",
    "leaves",
    "_layout",
    "model",
    "rows",
    "_objective",
    "_profile",
    "solvers",
    "_sampling",
    "posterior",
    "_residuals",
    "plotting",
    "diagnostics",
    "io",
    "simulation",
    "glm",
    "model_selection",
    "_cache",
)


#: Lines of each module that reach for a private name which another module declares, through `self` too: a class that is
#: spread over modules shares its state. A number may only go down, and one that is too high fails as well.
STILL_REACHING = {
    "bayesglm._likelihood": 1,
    "bayesglm.diagnostics._page": 4,
    "bayesglm.diagnostics._pictures": 5,
    "bayesglm.glm._faces": 8,
    "bayesglm.glm._glm": 20,
}

PACKAGE = Package.at(ROOT)
TREES = PACKAGE.trees


def imports(module):
    """The modules of the package that a module imports, wherever in the file it does so."""
    # `from .solvers import _svrg` imports a module, `from .links import exp` a name.
    named = (full for _, _, full in PACKAGE.imports[module])
    found = {full if full in TREES else full.rpartition(".")[0] for full in named}
    return (found & TREES.keys()) - {module}


def names_numpyro_sample(tree):
    """Whether `numpyro.sample` is reached for, under whatever name NumPyro was imported."""
    aliases = {"numpyro", "numpyro.primitives"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname for alias in node.names if alias.name in aliases}
        elif isinstance(node, ast.ImportFrom) and node.module in aliases:
            aliases |= {alias.name for alias in node.names if alias.name == "sample"}
    sites = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return "sample" in aliases or any(
        site.attr == "sample" and ast.unparse(site.value) in aliases for site in sites
    )


def test_every_module_has_a_layer():
    modules = {layer(module) for module in TREES} - {""}
    assert modules <= set(LAYERS), "add it to LAYERS in tests/test_architecture.py, at its place"
    assert modules >= set(LAYERS), "LAYERS names a module that does not exist"


@pytest.mark.parametrize("module", [module for module in TREES if layer(module)])
def test_imports_come_from_layers_above(module):
    allowed = LAYERS[: LAYERS.index(layer(module))]
    for imported in imports(module):
        inside = layer(imported) == layer(module)
        assert inside or layer(imported) in allowed, f"{module} imports {imported}"


def test_only_estimators_know_estimators():
    """What estimators are made of takes values; the estimators alone hold state."""
    faces = {f"bayesglm.glm.{name}" for name in ("_estimator", "_glm", "_faces")}
    assert faces <= TREES.keys()
    assert {m for m in TREES if imports(m) & faces} <= faces | {"bayesglm.glm"}


def test_no_import_cycles():
    TopologicalSorter({module: imports(module) for module in TREES}).prepare()


def test_the_joint_density_is_written_in_one_module():
    assert {module for module in TREES if names_numpyro_sample(TREES[module])} == {"bayesglm.model"}


@pytest.mark.parametrize("module", TREES)
def test_files_are_short(module):
    assert len(PACKAGE.sources[module].splitlines()) <= MAX_LINES


def test_files_of_tests_are_short():
    paths = (ROOT / "tests").rglob("*.py")
    long = {p.name for p in paths if len(p.read_text(encoding="utf-8").splitlines()) > MAX_LINES}
    assert long <= LONG_TESTS, "split it by promise"
    assert long == LONG_TESTS, "take it from LONG_TESTS: it is short now"


def test_no_module_reaches_for_the_private_names_of_another():
    found = Counter(module for places in private_names(PACKAGE) for module, _ in places)
    more = {module: n for module, n in found.items() if n > STILL_REACHING.get(module, 0)}
    assert not more, "`python -m tests.structure --places` lists them by line"
    assert found == STILL_REACHING, "fewer now: lower the numbers in STILL_REACHING"


@pytest.mark.parametrize("module", TREES)
def test_public_names_exist_and_are_documented(module):
    imported = importlib.import_module(module)
    for name in getattr(imported, "__all__", ()):
        value = getattr(imported, name)
        members = vars(value) if inspect.isclass(value) else ()
        methods = [
            getattr(value, member)
            for member in members
            if not member.startswith("_") and isinstance(members[member], FunctionType | property)
        ]
        # `getdoc` looks along the base classes: a method is documented once, where it first stands.
        documented = [value, *methods] if callable(value) else []
        assert all(inspect.getdoc(thing) for thing in documented), f"{module}.{name}"
