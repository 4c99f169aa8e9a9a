"""A pickle read as data gives what pickle gives, and calls nothing of it."""

import io
import pickle
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ue_audit.pickles import Ordered, Refused, read

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(PLAIN)
@settings(max_examples=150, deadline=None)
def test_plain_values_are_what_pickle_makes_of_them(value):
    stream = io.BytesIO(pickle.dumps(value, protocol=2) + b"rest")
    assert read(stream, {}) == value
    assert stream.read() == b"rest"


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x80\x02", b"\x80\x02]q\x00("]))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_or_refused(data, start):
    try:
        read(io.BytesIO(start + data), {})
    except Refused as refused:
        assert "\n" not in str(refused)


def test_stand_ins_are_called_in_the_place_of_what_is_named():
    raw = pickle.dumps(OrderedDict(a=1, b=[2]), protocol=2)
    found = read(io.BytesIO(raw), {"collections.OrderedDict": Ordered})
    assert isinstance(found, Ordered) and found == {"a": 1, "b": [2]}
    with pytest.raises(Refused, match="names 'collections.OrderedDict'"):
        read(io.BytesIO(raw), {})


def test_what_is_called_must_be_a_stand_in_itself():
    # GLOBAL puts the stand-in on the stack, EMPTY_DICT another thing: only the first may be called
    with pytest.raises(Refused, match="calls"):
        read(io.BytesIO(b"\x80\x02}X\x01\x00\x00\x00a\x85R."), {"x.y": str.upper})
