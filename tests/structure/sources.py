"""The sources of the package as syntax trees: names, imports and classes, without importing anything."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "bayesglm"
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


class Class(NamedTuple):
    """A class of the package: where it stands, its bases by full name, and what it declares."""

    module: str
    bases: tuple[str, ...]
    fields: set[str]  # data: annotated in the class, or set on `self` in `__init__`
    declared: set[str]  # every attribute


class Package:
    """The parsed sources of a package.

    Parameters
    ----------
    sources : dict
        Text of each module by its full name; that of a package ends in ``.__init__``.
    """

    def __init__(self, sources):
        self.packages = {name[:-9] for name in sources if name.endswith(".__init__")}
        self.sources = {name.removesuffix(".__init__"): text for name, text in sources.items()}
        self.trees = {name: ast.parse(text) for name, text in self.sources.items()}
        self.imports = {module: list(self._imports(module)) for module in self.trees}
        self.names = {m: {name: full for _, name, full in v} for m, v in self.imports.items()}
        self.classes = {
            f"{module}.{node.name}": self._class(module, node)
            for module, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        }

    @classmethod
    def at(cls, root=ROOT):
        """Read the package in a checkout."""
        paths = sorted((Path(root) / PACKAGE).rglob("*.py"))
        if not paths:
            raise SystemExit(f"There is no `{PACKAGE}` with sources in {Path(root).resolve()}.")
        name = lambda path: ".".join(path.relative_to(root).with_suffix("").parts)  # noqa: E731
        return cls({name(path): path.read_text(encoding="utf-8") for path in paths})

    def _imports(self, module):
        """Line, name and full name of each import of a module, wherever in the file it stands."""
        package = module if module in self.packages else module.rpartition(".")[0]
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    yield node.lineno, alias.asname or first, alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
                source = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
                for alias in node.names:
                    yield node.lineno, alias.asname or alias.name, f"{source}.{alias.name}"

    def follow(self, full):
        """Where a name was defined that a module may only hand on."""
        for _ in range(9):
            module, _, name = full.rpartition(".")
            if full in self.trees or name not in self.names.get(module, ()):
                break
            full = self.names[module][name]
        return full

    def resolve(self, module, node):
        """Return the full name that an expression of names and dots stands for, or an empty string."""
        if isinstance(node, ast.Attribute):
            return self.follow(f"{self.resolve(module, node.value)}.{node.attr}")
        return self.follow(f"{module}.{node.id}") if isinstance(node, ast.Name) else ""

    def _class(self, module, node):
        annotated, declared, fields = set(), set(), set()
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part.annotation):
                annotated.add(part.target.id)
            elif isinstance(part, ast.Assign):
                declared |= {target.id for target in part.targets if isinstance(target, ast.Name)}
            elif isinstance(part, FUNCTIONS):
                declared |= _set_on_self(part) | {part.name}
                fields |= _set_on_self(part) if part.name == "__init__" else set()
        bases = tuple(filter(None, (self.resolve(module, base) for base in node.bases)))
        return Class(module, bases, fields | annotated, declared | annotated)

    def ancestors(self, full):
        """Full names of the own classes in the method resolution order of a class, itself among them."""
        own = (base for base in self.classes[full].bases if base in self.classes)
        return {full}.union(*map(self.ancestors, own))


def _set_on_self(function):
    stored = (
        n
        for n in ast.walk(function)
        if isinstance(n, ast.Attribute | ast.Name) and isinstance(n.ctx, ast.Store)
    )
    return {ast.unparse(n)[5:] for n in stored if ast.unparse(n).startswith("self.")}


def layer(module):
    """The first part of a module's name below the package."""
    return module.split(".")[1] if "." in module else ""
