"""Laws of class labels: decoding undoes encoding, and nothing unknown passes."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesglm.glm import ClassifierGLM
from bayesglm.labels import check_count, classes_of, decode, encode, is_default, require

quick = settings(max_examples=40, deadline=None, database=None)

LABELS = st.one_of(
    st.sets(st.integers(-(2**40), 2**40), min_size=2, max_size=6),
    st.sets(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
        min_size=2,
        max_size=6,
    ),
    st.sets(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=6),
    st.just({False, True}),
)
KINDS = {
    "default": np.array([2, 0, 1, 1]),
    "integers": np.array([7, -3, 100, 7]),
    "unsigned": np.array([7, 3, 200, 7], dtype=np.uint8),
    "floats": np.array([0.5, -1.5, 2.5, 0.5]),
    "strings": np.array(["b", "a", "long label", "b"]),
    "bytes": np.array([b"b", b"a", b"c", b"b"]),
    "objects": np.array(["b", "a", "long label", "b"], dtype=object),
    "variable": np.array(["b", "a", "long label", "b"], dtype=np.dtypes.StringDType()),
    "tuples": np.array([(1, 2), (0, 5), (3, 0), (1, 2)], dtype="O,O").astype(object),
    "dates": np.array(["2020-02-01", "2020-01-01", "2021-01-01", "2020-02-01"], dtype="M8[D]"),
}


def known(y):
    return classes_of(y, len(np.unique(y)))


@quick
@given(LABELS, st.data())
def test_decode_undoes_encode(labels, data):
    labels = sorted(labels)
    y = np.array(data.draw(st.permutations(labels + labels)))
    classes = known(y)
    index = encode(classes, y)
    np.testing.assert_array_equal(np.asarray(decode(classes, index)), y)
    np.testing.assert_array_equal(classes, np.array(labels))
    assert index.dtype == np.intp


@pytest.mark.parametrize("y", KINDS.values(), ids=KINDS)
def test_index_orders_as_labels(y):
    expected = np.unique(y, return_inverse=True)[1]
    np.testing.assert_array_equal(encode(known(y), y), expected)


@pytest.mark.parametrize("y", KINDS.values(), ids=KINDS)
def test_two_dimensional_labels_encode_elementwise(y):
    classes = known(y)
    index = encode(classes, y.reshape(2, 2))
    np.testing.assert_array_equal(index, encode(classes, y).reshape(2, 2))
    assert np.asarray(decode(classes, index)).shape == (2, 2)


@pytest.mark.parametrize("y", [[0, 1, 2], [5, -1, 3], [True, False]])
def test_jax_and_numpy_labels_encode_alike(y):
    classes = known(np.array(y))
    np.testing.assert_array_equal(encode(classes, jnp.array(y)), encode(classes, np.array(y)))
    np.testing.assert_array_equal(classes, known(jnp.array(y)))


@pytest.mark.parametrize("y", [[0, 1, 2], [5, -1, 3]])
def test_integral_floats_match_integers_both_ways(y):
    integers, floats = np.array(y), np.array(y, dtype=float)
    expected = encode(known(integers), integers)
    np.testing.assert_array_equal(encode(known(integers), floats), expected)
    np.testing.assert_array_equal(encode(known(floats), integers), expected)


@pytest.mark.parametrize("y", [[0.0, 1.0, np.nan, 2.0], [5.5, np.inf, -1.0, np.nan, 3.0]])
@pytest.mark.parametrize("as_array", [np.array, jnp.array])
def test_missing_floats_are_no_class_and_encode_as_minus_one(y, as_array):
    y = as_array(y)
    index = encode(classes_of(y, 3), y)
    np.testing.assert_array_equal(index == -1, ~np.isfinite(np.asarray(y)))


@pytest.mark.parametrize("dtype", [object, np.dtypes.StringDType()])
def test_strings_match_whatever_array_holds_them(dtype):
    plain = np.array(["b", "a", "long label", "b"])
    other = plain.astype(dtype)
    assert known(other).dtype.kind == "U"
    np.testing.assert_array_equal(known(other), known(plain))
    np.testing.assert_array_equal(encode(known(plain), other), encode(known(other), plain))


def test_objects_that_are_integers_from_zero_are_default():
    assert is_default(known(np.array([1, 0, 2], dtype=object)))


def test_missing_objects_are_no_class_and_encode_as_minus_one():
    y = np.array(["b", None, "a", np.nan], dtype=object)
    assert encode(classes_of(y, 2), y).tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize(
    ("labels", "given_labels", "named"),
    [
        ([0, 1, 2], [0, 3, 1], "3"),
        ([0, 1, 2], [0, -1, 1], "-1"),
        ([0, 1, 2], [0, 0.5, 1], "0.5"),
        ([0, 1, 2], ["1", "2", "0"], "'1'"),
        ([4, 6, 9], [4, 5, 9], "5"),
        ([4, 6, 9], [4, 10, 9], "10"),
        ([4, 6, 9], ["4", "6", "9"], "'4'"),
        (["a", "b"], ["a", "c"], "'c'"),
        (["a", "b"], [0, 1], "0"),
        ([False, True], [0, 2], "2"),
    ],
)
def test_unknown_labels_are_named(labels, given_labels, named):
    classes = known(np.array(labels))
    with pytest.raises(ValueError, match=named):
        encode(classes, np.array(given_labels))
    with pytest.raises(ValueError, match=named):
        encode(classes, np.array(given_labels, dtype=object))
    if np.array(given_labels).dtype.kind in "if":
        with pytest.raises(ValueError, match=named):
            encode(classes, jnp.array(given_labels))


def test_narrow_unsigned_labels_outside_the_range_are_unknown():
    """A uint8 cannot hold -1: marking the unknown must not overflow or wrap."""
    classes = classes_of([0, 1], 2)
    assert encode(classes, np.array([1, 0], dtype=np.uint8)).tolist() == [1, 0]
    with pytest.raises(ValueError, match="255"):
        encode(classes, np.array([255], dtype=np.uint8))


def test_default_labels_decode_to_jax_integers_and_others_to_numpy():
    default, other = known([0.0, 1.0]), known(["a", "b"])
    decoded = decode(default, [1, 0])
    assert hasattr(decoded, "devices")
    assert jnp.issubdtype(decoded.dtype, jnp.integer)
    assert is_default(default)
    assert default.dtype.kind == "i"
    assert type(decode(other, [1, 0])) is np.ndarray
    assert not is_default(other)


def test_booleans_come_back_as_booleans():
    classes = known([True, False])
    assert decode(classes, encode(classes, [True, False])).dtype == bool


@pytest.mark.parametrize("y", [[0, 1], [0, 1, 2, 3]])
def test_wrong_number_of_classes_leaves_the_earlier_ones(y):
    model = ClassifierGLM(3).set_classes(["a", "b", "c"])
    with pytest.raises(ValueError, match=f"Found {len(y)} .* 3"):
        model.set_classes(y)
    assert model.classes_.tolist() == ["a", "b", "c"]


def test_unsortable_labels_are_refused():
    with pytest.raises(TypeError, match="sortable"):
        classes_of(np.array(["a", 1], dtype=object), 2)


@pytest.mark.parametrize("n_classes", [3, 3.0, np.int8(3), np.array([3]), jnp.array(3)])
def test_integral_class_counts_are_accepted(n_classes):
    assert check_count(n_classes) == 3
    assert type(check_count(n_classes)) is int


@pytest.mark.parametrize("n_classes", [1, 0, -2, 2.5, "3", None, np.nan, np.inf, [2], np.ones(2)])
def test_other_class_counts_are_refused(n_classes):
    message = "The number of classes must be an integer greater than or equal to 2."
    with pytest.raises(ValueError, match=message):
        check_count(n_classes)


def test_unset_classes_name_the_method():
    start = "^Classes are not set. Must call ``set_classes`` before calling .*"
    with pytest.raises(RuntimeError, match=start + "predict_proba"):
        require(None, "predict_proba")
    with pytest.raises(RuntimeError, match=start + "encode"):
        encode(None, [0, 1])
    with pytest.raises(RuntimeError, match=start + "decode"):
        decode(None, [0, 1])


def test_another_number_of_classes_forgets_the_labels():
    model = ClassifierGLM(2).set_classes([0, 1])
    model.n_classes = 3
    assert model.classes_ is None
