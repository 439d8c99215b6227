"""Counting: sizes, depths, and the places that reach across a boundary, of a :class:`sources.Package`.

A place is a line of a file: what one line does twice is counted once.
"""

from __future__ import annotations

import ast
import re

import numpy as np

from .sources import FUNCTIONS, layer

#: Layers whose classes state a prior, and those that state a family.
PRIOR_LAYERS = ("_penalty", "prior")
FAMILY_LAYERS = ("observation_models", "distributions")
#: What an object that states a prior is called, where another class has a field of the same name.
PRIOR_NAMES = re.compile(r"penalt|prior|kink|precision|\bterms?\b", re.IGNORECASE)
DOCUMENTED = FUNCTIONS | ast.ClassDef | ast.Module


def quantile(values, share):
    """The smallest value that at least this share of the values does not exceed."""
    return int(np.quantile(values, share, method="inverted_cdf"))


def docstring(node):
    """The node of a docstring, or None."""
    documented = isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None
    return node.body[0].value if documented else None


def lines_of(node):
    """Lines of a node, without its decorators."""
    return 0 if node is None else node.end_lineno - node.lineno + 1


def functions(tree):
    """Name, lines without docstring, and arguments without the instance, of each function and method."""
    methods = {id(part) for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for part in n.body}
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            a = node.args
            static = any(ast.unparse(mark) == "staticmethod" for mark in node.decorator_list)
            count = len(a.posonlyargs + a.args + a.kwonlyargs) + bool(a.vararg) + bool(a.kwarg)
            count -= id(node) in methods and not static
            yield node.name, lines_of(node) - lines_of(docstring(node)), count


def class_depths(package):
    """Own classes in the method resolution order of each class that some module's ``__all__`` names."""
    depths = {}
    for module, tree in package.trees.items():
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                named = {package.follow(f"{module}.{n}") for n in ast.literal_eval(node.value)}
                found = sorted(named & package.classes.keys())
                depths |= {full: len(package.ancestors(full)) for full in found}
    return depths


def prior_fields(package):
    """Places outside the prior's layers that read a field which one of their classes declares.

    A field that a class elsewhere declares too is counted where the object is called like a prior (`PRIOR_NAMES`).
    """
    classes = package.classes.values()
    fields = set().union(*(c.fields for c in classes if layer(c.module) in PRIOR_LAYERS))
    shared = set().union(*(c.declared for c in classes if layer(c.module) not in PRIOR_LAYERS))
    places = set()
    for module, tree in package.trees.items():
        for node in ast.walk(tree) if layer(module) not in PRIOR_LAYERS else ():
            if isinstance(node, ast.Attribute) and node.attr in fields:
                owner = ast.unparse(node.value).rpartition(".")[2]
                if node.attr not in shared or PRIOR_NAMES.search(owner):
                    places.add((module, node.lineno))
    return places


def family_names(package):
    """Places outside the families' layers that name one, as three sets: by class, by string, within a longer text.

    Imports and docstrings are left out.
    """
    inside = {
        full for full, found in package.classes.items() if layer(found.module) in FAMILY_LAYERS
    }
    below = {
        f for f in inside if any(p.endswith(".Observations") for p in package.ancestors(f) - {f})
    }
    short = {full.rpartition(".")[2].removesuffix("Observations") for full in below}
    known = {kind + end for kind in short for end in ("Observations", "Predictor")}
    word = re.compile(rf"\b({'|'.join(sorted(short)) or '$.'})(Observations)?\b")
    classes, strings, texts = set(), set(), set()
    for module, tree in package.trees.items():
        documented = {id(docstring(node)) for node in ast.walk(tree)}
        for node in ast.walk(tree) if layer(module) not in FAMILY_LAYERS else ():
            text = node.value if isinstance(node, ast.Constant) else None
            if {getattr(node, "id", None), getattr(node, "attr", None)} & known:
                classes.add((module, node.lineno))
            elif isinstance(text, str) and id(node) not in documented:
                if text in short | known | {"Observations"}:
                    strings.add((module, node.lineno))
                elif word.search(text):
                    texts.add((module, node.lineno))
    return classes, strings, texts


def is_private(name):
    """Whether a name begins with one underscore and is more than that."""
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names(package):
    """Places that reach for a private name of another module, as two sets.

    First names of modules (``from x import _y``, ``x._y``) and attributes (``obj._y``, ``getattr(obj, "_y")``) that a
    class of another module declares and none of this one; then such attributes reached through ``self``. A private
    module is no such name: its underscore is for the user.
    """
    declared = {
        (found.module, name) for found in package.classes.values() for name in found.declared
    }
    anywhere = {name for _, name in declared}
    others, inherited = set(), set()
    for module, tree in package.trees.items():
        for line, _, full in package.imports[module]:
            source, _, name = full.rpartition(".")
            if source in package.trees and is_private(name) and full not in package.trees:
                others.add((module, line))
        for node in ast.walk(tree):
            owner, name = _reached(node)
            if not is_private(name):
                continue
            source, root = package.resolve(module, owner), ast.unparse(owner)
            if source in package.trees:
                if f"{source}.{name}" not in package.trees:
                    others.add((module, node.lineno))
            elif name in anywhere and (module, name) not in declared:
                own = root in ("self", "cls") or root.startswith("super(")
                (inherited if own else others).add((module, node.lineno))
    return others, inherited


def _reached(node):
    """The object and the name of an attribute that an expression reaches for."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    called = isinstance(node, ast.Call) and len(node.args) > 1 and ast.unparse(node.func)
    if called in ("getattr", "setattr", "hasattr", "delattr"):
        name = getattr(node.args[1], "value", None)
        return node.args[0], name if isinstance(name, str) else ""
    return None, ""


def places(package):
    """Every place of each kind, by the name of its number.

    Raises
    ------
    LookupError
        If there is no class in the layers of priors or families: zero places would be no finding.
    """
    layers = {layer(found.module) for found in package.classes.values()}
    for needed in PRIOR_LAYERS, FAMILY_LAYERS:
        if not layers & set(needed):
            raise LookupError(
                f"No class in {' or '.join(needed)}: name their layers in {__file__}."
            )
    classes, strings, texts = family_names(package)
    others, inherited = private_names(package)
    return {
        "reads a prior's field": prior_fields(package),
        "names a family's class": classes,
        "names a family by a string": strings,
        "names a family in a message": texts,
        "reaches for another module's private name": others,
        "reaches for a base class's private name, declared in another module": inherited,
    }


def numbers(package):
    """Return all numbers by name; those of places as a pair (lines, files)."""
    trees, texts = package.trees.values(), package.sources.values()
    lines = sum(len(text.splitlines()) for text in texts)
    documented = sum(lines_of(docstring(node)) for tree in trees for node in ast.walk(tree))
    _, sizes, arguments = zip(*(f for tree in trees for f in functions(tree)), strict=True)
    depths = class_depths(package)
    deepest = sorted(depths, key=depths.get, reverse=True)[:4]
    found = {
        "files": len(package.trees),
        "lines": lines,
        "lines of the longest file": max(len(text.splitlines()) for text in texts),
        "docstring share": round(documented / lines, 3),
        "functions": len(sizes),
    }
    for name, values in ("function lines", sizes), ("function arguments", arguments):
        found |= {f"{name}, p{int(100 * q)}": quantile(values, q) for q in (0.5, 0.9)}
        found[f"{name}, max"] = max(values)
    found |= {
        f"own classes in the MRO of {full.rpartition('.')[2]}": depths[full] for full in deepest
    }
    for name, where in places(package).items():
        found[f"places: {name}"] = (len(where), len({module for module, _ in where}))
    return found
