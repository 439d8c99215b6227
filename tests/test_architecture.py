"""The layers of the package: who may import whom, and where the joint density is written."""

import ast
import importlib
import inspect
from graphlib import TopologicalSorter
from pathlib import Path
from types import FunctionType

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 500

# A module imports only from those before it; the modules of a package (`solvers`, `glm`) may import
# one another. `bayesglm/__init__.py` stands after all of them.
LAYERS = (
    "_progress",
    "_process",
    "_messages",
    "_input",
    "_design",
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
    "_shards",
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
    "_cache",
)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / "bayesglm").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def layer(module):
    """The first part of the name below the package; the package itself has none."""
    return module.split(".")[1] if "." in module else None


def imports(module):
    """The modules of the package that a module imports, wherever in the file it does so."""
    # Relative imports count from the package that holds the module.
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            source = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            # `from .solvers import _svrg` imports a module, `from .links import exp` a name.
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= (names & FILES.keys()) | ({source} if names - FILES.keys() else set())
    return {name for name in found if name.split(".")[0] == "bayesglm"} - {module}


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
    modules = {layer(module) for module in FILES} - {None}
    assert modules <= set(LAYERS), "add it to LAYERS in tests/test_architecture.py, at its place"
    assert modules >= set(LAYERS), "LAYERS names a module that does not exist"


@pytest.mark.parametrize("module", [module for module in FILES if layer(module)])
def test_imports_come_from_layers_above(module):
    allowed = LAYERS[: LAYERS.index(layer(module))]
    for imported in imports(module):
        inside = layer(imported) == layer(module)
        assert inside or layer(imported) in allowed, f"{module} imports {imported}"


def test_no_import_cycles():
    TopologicalSorter({module: imports(module) for module in FILES}).prepare()


def test_the_joint_density_is_written_in_one_module():
    assert {module for module in FILES if names_numpyro_sample(TREES[module])} == {"bayesglm.model"}


@pytest.mark.parametrize("module", FILES)
def test_files_are_short(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", FILES)
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
