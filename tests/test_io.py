"""Laws of the file format: what is read is what was written, or a ValueError."""

import copy
import json
import os
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict, namedtuple
from io import BytesIO

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesglm import io

quick = settings(max_examples=60, deadline=None, database=None)

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(sizes=(64, 128)),
    hnp.unicode_string_dtypes(min_len=1, max_len=5),
    hnp.byte_string_dtypes(min_len=1, max_len=5),
)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0)))
KEYS = st.text(max_size=4) | st.integers() | st.floats()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ARRAYS
TREES = st.recursive(
    LEAVES,
    lambda node: (
        st.lists(node, max_size=3)
        | st.lists(node, max_size=3).map(tuple)
        | st.dictionaries(KEYS, node, max_size=3)
    ),
    max_leaves=8,
)
EXAMPLE = {
    "model_class": "GLM",
    "params": {"strength": 0.1, "kwargs": None, "ratio": (1.0, np.nan), 3: [True, 1]},
    "coef_": np.arange(6.0).reshape(2, 3),
    "scale": np.float32(2.5),
}


def assert_same(found, expected):
    """Equal in type, value and, for dicts, order; NaN equals NaN, -0.0 differs from 0.0."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert_same(list(found.items()), list(expected.items()))
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray | np.generic):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found, expected)
    else:
        # repr tells 1 from 1.0, -0.0 from 0.0, and calls NaN by its name
        assert repr(found) == repr(expected)


@pytest.fixture
def saved(tmp_path):
    return io.write(tmp_path / "model", EXAMPLE)


@quick
@given(tree=TREES)
def test_read_returns_what_was_written(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "round_trip.npz"
    io.write(path, tree)
    assert_same(io.read(path), tree)


@pytest.mark.parametrize(
    "scalar",
    [np.float64(0.1), np.float32(0.1), np.int8(3), np.bool_(True), np.str_("a"), np.complex64(1j)],
)
def test_numpy_scalars_stay_scalars(tmp_path, scalar):
    path = io.write(tmp_path / "scalar", [scalar])
    assert_same(io.read(path), [scalar])


@pytest.mark.parametrize("array", [np.arange(3.0, dtype=">f8"), np.asfortranarray(np.eye(3))])
def test_byte_and_memory_order_do_not_change_the_values(tmp_path, array):
    found = io.read(io.write(tmp_path / "array", array))
    assert_same(found, array)


def test_jax_arrays_come_back_as_numpy_of_the_same_dtype(tmp_path):
    with jax.enable_x64(True):
        arrays = [jnp.ones(3, dtype=dtype) for dtype in ("float32", "float64", "int32", "bool")]
        path = io.write(tmp_path / "arrays", arrays)
    assert_same(io.read(path), [np.asarray(array) for array in arrays])


@pytest.mark.parametrize("name", ["model", "model.npz", "model.v2"])
@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_suffix_is_appended_as_numpy_does(tmp_path, name, as_path):
    written = io.write(as_path(tmp_path / name), EXAMPLE)
    expected = name if name.endswith(".npz") else name + ".npz"
    assert os.listdir(tmp_path) == [expected] == [written.name]
    assert_same(io.read(as_path(tmp_path / expected)), EXAMPLE)


def test_file_is_a_plain_npz(saved):
    with np.load(saved, allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        np.testing.assert_array_equal(file["array_0"], EXAMPLE["coef_"])
    assert header["format"] == "bayesglm-model"
    assert header["format_version"] == 1


@pytest.mark.parametrize(
    "leaf",
    [
        np.array([None]),
        np.zeros(2, dtype="datetime64[s]"),
        np.zeros(2, dtype=[("a", float)]),
        np.ma.masked_array([1.0], mask=[True]),
        jax.random.key(0),
        jnp.zeros(2, dtype=jnp.bfloat16),
        {1, 2},
        1j,
        len,
        OrderedDict(a=1),
        namedtuple("Pair", "a b")(1, 2),
        object(),
    ],
    ids=lambda leaf: type(leaf).__name__,
)
def test_other_leaves_are_refused_by_place(tmp_path, leaf):
    with pytest.raises(TypeError, match=r"\['outer'\]\[1\]\['leaf'\]"):
        io.write(tmp_path / "model", {"outer": [0, {"leaf": leaf}]})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("key", [None, True, (1, 2), b"a", np.float64(1.0)])
def test_other_keys_are_refused_by_place(tmp_path, key):
    with pytest.raises(TypeError, match=r"\['outer'\].*key"):
        io.write(tmp_path / "model", {"outer": {key: 1}})


def test_failed_save_leaves_the_earlier_file(saved, monkeypatch):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        io.write(saved, {"a": object()})

    def full_disk(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np.lib.format, "write_array", full_disk)
    with pytest.raises(OSError, match="disk full"):
        io.write(saved, {"a": 1})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_saving_over_a_file_replaces_it(saved):
    io.write(saved, {"a": 1})
    assert_same(io.read(saved), {"a": 1})
    assert os.listdir(saved.parent) == [saved.name]


def test_missing_file_and_folder_stay_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        io.read(tmp_path / "model.npz")
    with pytest.raises(FileNotFoundError, match="folder"):
        io.write(tmp_path / "nowhere" / "model", EXAMPLE)


class Bomb:
    """Unpickling it touches a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("function", [io.read, io.inspect_npz])
@pytest.mark.parametrize("form", ["pickle", "npy", "member", "header"])
def test_pickles_are_refused_unopened(tmp_path, form, function):
    path, touched = tmp_path / "model.npz", tmp_path / "touched"
    bomb = np.array([Bomb(touched)], dtype=object)
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(touched)))
    elif form == "npy":
        with open(path, "wb") as stream:
            np.save(stream, bomb)
    elif form == "member":
        header = {"format": io.FORMAT, "format_version": 1, "tree": {"array": 0}}
        np.savez(path, header=as_bytes(header), array_0=bomb)
    else:
        np.savez(path, header=bomb)
    with pytest.raises(ValueError, match="model.npz"):
        function(path)
    assert not touched.exists()


def as_bytes(header):
    text = header if isinstance(header, str) else json.dumps(header)
    return np.frombuffer(text.encode(), dtype=np.uint8)


def header_of(tree, **changes):
    return {"format": io.FORMAT, "format_version": 1, "tree": tree, **changes}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (header_of(None, format="other"), "format"),
        (header_of(None, format_version=2), "version is 2"),
        ({"format": io.FORMAT, "format_version": 1}, "format"),
        ([1, 2], "format"),
        ("{not json", "Cannot read"),
        ("é", "Cannot read"),
        ("[" * 100_000, "Cannot read"),
        (json.dumps(header_of(None)).replace("null", "NaN"), "NaN"),
        (header_of({"array": 1}), "array_1"),
        (header_of({"array": "0"}), "no meaning"),
        (header_of([{"array": 0}]), "no meaning"),
        (header_of({"array": 0, "list": []}), "no meaning"),
        (header_of({"float": "1.0"}), "no meaning"),
        (header_of({"dict": [[None, {"array": 0}]]}), "key"),
        (header_of({"dict": [[{"array": 0}, 1]]}), "Cannot read"),
        (header_of(None), "members"),
        (header_of({"list": [{"array": 0}, {"array": 0}]}), "members"),
    ],
)
def test_tampered_headers_are_refused(tmp_path, header, message):
    path = tmp_path / "model.npz"
    np.savez(path, header=as_bytes(header), array_0=np.ones(2))
    with pytest.raises(ValueError, match="model.npz") as caught:
        io.read(path)
    assert message in str(caught.value)


def test_foreign_archives_are_refused(tmp_path):
    path = tmp_path / "foreign.npz"
    np.savez(path, coef=np.ones(2))
    with pytest.raises(ValueError, match="header"):
        io.read(path)


@pytest.mark.parametrize("drop", ["header.npy", "array_0.npy"])
@pytest.mark.parametrize("replacement", [None, b"no array"])
def test_missing_and_replaced_members_are_refused(saved, drop, replacement):
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            if name != drop:
                archive.writestr(name, content)
        if replacement is not None:
            archive.writestr(drop.removesuffix(".npy"), replacement)
    with pytest.raises(ValueError, match="Cannot read"):
        io.read(saved)


def test_exchanged_members_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    io.write(path, {"a": np.zeros(3), "b": np.ones(3)})
    with np.load(path) as file:
        members = dict(file)
    members["array_0"], members["array_1"] = members["array_1"], members["array_0"]
    np.savez(path, **members)
    with pytest.raises(ValueError, match=r"model\.npz.*'array_0' is not the one that was saved"):
        io.read(path)
    # files of before checksums are read
    header = json.loads(members["header"].tobytes())
    del header["checksums"]
    members["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **members)
    np.testing.assert_array_equal(io.read(path)["a"], np.ones(3))


def test_additional_members_are_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(ValueError, match="note.txt"):
        io.read(saved)


def test_truncated_files_are_refused(saved):
    content = saved.read_bytes()
    for length in range(0, len(content), 7):
        saved.write_bytes(content[:length])
        with pytest.raises(ValueError, match="Cannot read"):
            io.read(saved)


def test_flipped_bits_never_change_what_is_read(saved):
    """Each member has a checksum; bytes that the archive does not use (dates) may change."""
    content = bytearray(saved.read_bytes())
    for place in range(0, len(content), 3):
        content[place] ^= 0x10
        saved.write_bytes(content)
        try:
            found = io.read(saved)
        except ValueError:
            pass
        else:
            assert_same(found, EXAMPLE)
        content[place] ^= 0x10


CLAIMED = 1 << 27


def npy(shape, dtype="<f8", content=b""):
    """An .npy file with a header of one's choice."""
    stream = BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def archive(path, array, times=1, compression=zipfile.ZIP_STORED):
    """A file with our header and one array, in `times` entries of the directory, of which the header names all."""
    header = json.dumps(header_of({"list": [{"array": k} for k in range(times)]}))
    text = npy((len(header),), "|u1", header.encode())
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("header.npy", text)
        archive.writestr("array_0.npy", array)
        for k in range(1, times):
            again = copy.copy(archive.filelist[1])
            again.filename = f"array_{k}.npy"
            archive.filelist.append(again)


def one_array_named_often(path):
    header = json.dumps(header_of({"list": [{"array": 0}] * 1024}))
    array = np.zeros(CLAIMED // 1024, np.uint8)
    np.savez(path, header=np.frombuffer(header.encode(), np.uint8), array_0=array)


BOMBS = {
    "compressed zeros": lambda path: archive(
        path, npy((CLAIMED,), "|u1", bytes(CLAIMED)), compression=zipfile.ZIP_DEFLATED
    ),
    "a shape beyond the bytes": lambda path: archive(path, npy((CLAIMED,))),
    "a dtype beyond the bytes": lambda path: archive(path, npy((), f"<U{CLAIMED // 4}")),
    "entries that take no bytes": lambda path: archive(path, npy((CLAIMED,), "|V0")),
    "fewer entries than none": lambda path: archive(path, npy((-1, -1), "|u1", b"1")),
    "entries of the directory that overlap": lambda path: archive(
        path, npy((CLAIMED >> 10,), "|u1", bytes(CLAIMED >> 10)), times=1024
    ),
    "one array named often": one_array_named_often,
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_no_file_takes_more_memory_than_a_small_multiple_of_its_size(make, tmp_path):
    path = tmp_path / "model.npz"
    make(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="model.npz"):
            io.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # the bytes of a member, the copy of its array, and what Python makes of a header of a kilobyte or two
    assert peak < 3 * path.stat().st_size + (1 << 20)


def test_inspect_prints_keys_values_shapes_and_dtypes(saved, capsys):
    io.inspect_npz(saved)
    printed = capsys.readouterr().out
    for piece in ("model.npz", "model_class: 'GLM'", "strength: 0.1", "kwargs: None", "nan"):
        assert piece in printed
    assert "coef_: array float64 (2, 3)" in printed


@pytest.mark.parametrize("tree", [None, [], {}, np.ones(2), {"a": {}}])
def test_inspect_prints_any_tree(tmp_path, tree, capsys):
    io.inspect_npz(io.write(tmp_path / "model", tree))
    assert len(capsys.readouterr().out.splitlines()) == 2
