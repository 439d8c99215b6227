"""The file format of saved models: a tree of plain values and arrays in one .npz file.

A member ``header`` holds JSON (as bytes): the format, its version and the tree, in which arrays are
replaced by their number, and the checksum of each array; the members ``array_0``, ``array_1``, ... hold the arrays.
Nothing is pickled or unpickled, so that reading a file from a stranger runs no code of theirs. Nothing is
compressed either, so that no file takes more memory than a small multiple of its own size.

In the header None, bool, int, finite float and str stand for themselves. Everything else is an
object with one entry: ``{"dict": [[key, node], ...]}``, ``{"list": [...]}``, ``{"tuple": [...]}``,
``{"array": number}``, ``{"scalar": number}`` (a NumPy scalar), ``{"float": "nan"}``.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import uuid
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from numpy.typing import NDArray

__all__ = ["inspect_npz", "read", "write"]

FORMAT = "bayesglm-model"
FORMAT_VERSION = 1

_HEADER = "header"
_NON_FINITE = ("nan", "inf", "-inf")
# bool, signed, unsigned, float, complex, bytes, text
_ARRAY_KINDS = "biufcSU"
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write(path: str | os.PathLike, tree: Any) -> Path:
    """Save a tree, replacing an earlier file only once the new one is complete.

    Parameters
    ----------
    path : str or path
        ".npz" is appended if missing.
    tree : nested dict (keys str, int or float), list and tuple
        Leaves: None, bool, int, float, str, NumPy scalars, NumPy or JAX arrays with a numeric,
        boolean or fixed-width string dtype.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    TypeError
        If a leaf or a key is of another type; the message names its place in the tree.
    FileNotFoundError
        If the folder does not exist.
    """
    _check_name(path)
    arrays: dict[str, NDArray] = {}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tree": _to_node(tree, "", arrays),
        "checksums": {name: _checksum(array) for name, array in arrays.items()},
    }
    text = json.dumps(header, allow_nan=False).encode("ascii")
    members = {_HEADER: np.frombuffer(text, dtype=np.uint8), **arrays}
    return _replace(_with_suffix(path), members)


def read(path: str | os.PathLike) -> Any:
    """Return the tree that `write` saved.

    Types, dtypes and the order of dict keys come back as they were; JAX arrays come back as NumPy
    arrays, since JAX would truncate float64 under its default settings.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    tree

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not written by `write`, is damaged, or is of an unknown version.
    """
    _check_name(path)
    with open(path, "rb") as stream:
        try:
            return _parse(stream)
        # A damaged zip or npy file fails in a dozen ways (zipfile, zlib, struct, json, ...).
        except Exception as error:
            raise ValueError(
                f"Cannot read {os.fspath(path)!r} as a saved model: {str(error)[:300] or type(error).__name__}"
                ". Expected an undamaged .npz file written by `save_params`."
            ) from error


def inspect_npz(file_path: str | os.PathLike) -> None:
    """Print what a saved model holds: keys, values, and the dtype and shape of arrays.

    Nothing is unpickled, so looking at a file is safe.

    Parameters
    ----------
    file_path : str or path

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a saved model, or is damaged.
    """
    tree = read(file_path)
    print(f"{Path(file_path).name} ({FORMAT}, version {FORMAT_VERSION})")
    print("\n".join(_describe(tree, indent=1)))


def _checksum(array: NDArray) -> str:
    """Return the SHA-256 of an array, which no exchange of members or bytes leaves the same."""
    kind = repr((array.dtype.str, array.shape)).encode()
    return hashlib.sha256(kind + array.tobytes()).hexdigest()


def _to_node(value: Any, place: str, arrays: dict[str, NDArray]) -> Any:
    """Return the JSON node of `value`, moving its arrays into `arrays`."""
    # Exact types: a subclass (namedtuple, IntEnum, masked array) would come back as something else.
    kind = type(value)
    if kind is dict:
        return {
            "dict": [
                [_to_key(key, place), _to_node(item, f"{place}[{key!r}]", arrays)]
                for key, item in value.items()
            ]
        }
    if kind in (list, tuple):
        nodes = [_to_node(item, f"{place}[{i}]", arrays) for i, item in enumerate(value)]
        return {kind.__name__: nodes}
    if value is None or kind in (bool, int, str, float):
        return _to_scalar(value)
    if kind is np.ndarray or isinstance(value, np.generic | jax.Array):
        number = len(arrays)
        arrays[_member(number)] = _to_array(value, place)
        return {"scalar" if isinstance(value, np.generic) else "array": number}
    raise TypeError(
        f"Cannot save {_named(place)}: it is of type {kind.__qualname__}. Expected None, bool, "
        "int, float, str, an array, or a dict, list or tuple of these."
    )


def _to_key(key: Any, place: str) -> Any:
    """Return the JSON node of a dict key."""
    if type(key) not in (str, int, float):
        raise TypeError(
            f"Cannot save {_named(place)}: its key {key!r} is of type {type(key).__qualname__}. "
            "Expected str, int or float."
        )
    return _to_scalar(key)


def _to_scalar(value: None | bool | int | float | str) -> Any:
    """Return the JSON node of a plain value; JSON has no word for NaN and infinity."""
    if type(value) is float and not np.isfinite(value):
        return {"float": repr(value)}
    return value


def _to_array(value: Any, place: str) -> NDArray:
    """Return `value` as an array that can be stored without pickling."""
    # `jax.Array` includes random keys, whose dtype NumPy does not know.
    dtype = value.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind not in _ARRAY_KINDS:
        raise TypeError(
            f"Cannot save {_named(place)}: its dtype is {dtype}. Expected a numeric, boolean or "
            "fixed-width string dtype; convert it with `astype`."
        )
    return np.asarray(value)


def _replace(path: Path, members: dict[str, NDArray]) -> Path:
    """Write the file beside `path`, then move it there in one step."""
    # Through a link, as `open` would. Not `tempfile`: its files are readable by their owner only.
    target = path.resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot save to {str(path)!r}: there is no such folder.")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as stream:
            _write_members(stream, members)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _write_members(stream: BinaryIO, members: dict[str, NDArray]) -> None:
    """Write a zip of .npy files, which is what .npz is."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _parse(stream: BinaryIO) -> Any:
    """Return the tree in an open file; any exception means that it is not one of ours."""
    if not zipfile.is_zipfile(stream):
        raise ValueError("it is not a complete .npz file")
    size = stream.seek(0, os.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        members = _members(archive, size)
        take = lambda name: _parse_array(archive.read(members.pop(name)), name)  # noqa: E731
        if _HEADER not in members:
            raise ValueError(_of_another_package(members))
        header = _parse_header(take(_HEADER))
        tree = _from_node(header["tree"], partial(_checked, take, header.get("checksums")))
    if members:
        raise ValueError(f"its members {sorted(members)} are not named in its header")
    return tree


def _checked(take: Callable[[str], NDArray], checksums: dict | None, name: str) -> NDArray:
    """Return an array, if it is the one that was saved; the first files had no checksums."""
    array = take(name)
    if checksums is not None and checksums.get(name) != _checksum(array):
        raise ValueError(f"its array {name!r} is not the one that was saved")
    return array


def _of_another_package(names) -> str:
    if {"model_class", "coef_"} & set(names) or any("nemos" in name for name in names):
        return (
            "it seems to be written by NeMoS. Load it there, make the same estimator here, and set its `coef_` and "
            "`intercept_`"
        )
    return "it has no header"


def _check_name(path) -> None:
    if isinstance(path, bytes):
        raise TypeError(
            f"A file name must be a str or a Path, but {path!r} was given. Use `os.fsdecode` on it."
        )


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the .npy files in an archive by name, if reading all of them takes no more than `size` bytes."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            raise ValueError(f"its member {info.filename!r} is no array")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(
                f"its member {info.filename!r} is compressed, which is never done here"
            )
    claimed = sum(info.file_size for info in archive.infolist())
    if len(members) < len(archive.infolist()) or claimed > size:
        raise ValueError(
            f"its members overlap: they claim {claimed} bytes of a file of {size} bytes"
        )
    return members


def _parse_array(content: bytes, name: str) -> NDArray:
    """Return the array in an .npy file, whose header must say as many bytes as follow it."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in _NPY_HEADERS:
        raise ValueError(f"its array {name!r} has the unknown version {version}")
    shape, is_fortran, dtype = _NPY_HEADERS[version](stream)
    if dtype.kind not in _ARRAY_KINDS or dtype.itemsize == 0:
        raise ValueError(f"its array {name!r} has the dtype {dtype}")
    rest = len(content) - stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(
            f"its array {name!r} claims the shape {shape} and dtype {dtype}, but holds {rest} bytes"
        )
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    # a copy: what is read may be written to
    return flat.reshape(shape, order="F" if is_fortran else "C").copy(order="A")


def _parse_header(data: NDArray) -> dict:
    """Return the header as a dict with a known format and version."""
    if data.dtype != np.uint8:
        raise ValueError("its header is not text")
    header = json.loads(data.tobytes().decode("ascii"), parse_constant=_refuse_constant)
    if not isinstance(header, dict) or header.get("format") != FORMAT or "tree" not in header:
        raise ValueError(f"its header does not say that its format is {FORMAT!r}")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"its format version is {version!r}, but this version of the package knows only "
            f"{FORMAT_VERSION}; a newer version of the package may read it"
        )
    return header


def _refuse_constant(name: str) -> None:
    raise ValueError(f"its header contains {name}, which is not JSON")


def _from_node(node: Any, take: Callable[[str], NDArray]) -> Any:
    """Return the value of a JSON node; `take` gives each array once."""
    match node:
        case None | bool() | int() | float() | str():
            return node
        case {"dict": list(items), **rest} if not rest:
            return {_from_key(key): _from_node(item, take) for key, item in items}
        case {"list": list(items), **rest} if not rest:
            return [_from_node(item, take) for item in items]
        case {"tuple": list(items), **rest} if not rest:
            return tuple(_from_node(item, take) for item in items)
        case {"float": str(name), **rest} if name in _NON_FINITE and not rest:
            return float(name)
        case {"array": int(number), **rest} if not rest:
            return _from_member(number, take)
        case {"scalar": int(number), **rest} if not rest:
            array = _from_member(number, take)
            if array.shape:
                raise ValueError(f"its scalar {_member(number)!r} has the shape {array.shape}")
            return array[()]
    raise ValueError(f"its header contains {node!r}, which has no meaning")


def _from_key(node: Any) -> str | int | float:
    """Return a dict key."""
    key = _from_node(node, lambda name: np.empty(0))
    if type(key) not in (str, int, float):
        raise ValueError(f"its header contains the key {key!r}, which is not str, int or float")
    return key


def _from_member(number: int, take: Callable[[str], NDArray]) -> NDArray:
    """Return the array with that number."""
    try:
        return take(_member(number))
    except KeyError:
        raise ValueError(
            f"its members lack the array {_member(number)!r}, or its header names it twice"
        ) from None


def _describe(value: Any, indent: int) -> Iterator[str]:
    """Yield one line per entry of a tree."""
    margin = "  " * indent
    if isinstance(value, dict | list | tuple) and value:
        is_dict = isinstance(value, dict)
        for key, item in value.items() if is_dict else enumerate(value):
            label = f"{margin}{key}:" if is_dict else f"{margin}[{key}]:"
            if isinstance(item, dict | list | tuple) and item:
                yield label
                yield from _describe(item, indent + 1)
            else:
                yield f"{label} {_leaf(item)}"
    else:
        yield margin + _leaf(value)


def _leaf(value: Any) -> str:
    """Return one leaf as text; short arrays with their values."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    values = f" {np.array2string(value, separator=', ')}" if value.size <= 4 else ""
    return f"array {value.dtype} {value.shape}{values}".replace("\n", "")


def _member(number: int) -> str:
    return f"array_{number}"


def _named(place: str) -> str:
    return f"`{place}`" if place else "the tree"


def _with_suffix(path: str | os.PathLike) -> Path:
    """Return `path` with ".npz" appended if missing, as `numpy.savez` does."""
    name = os.fspath(path)
    return Path(name if name.endswith(".npz") else name + ".npz")
