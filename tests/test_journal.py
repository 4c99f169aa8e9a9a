"""The journal: whole lines come back, torn ones are known, and settings that differ are named with both values."""

from hypothesis import given
from hypothesis import strategies as st

from ue_audit import journal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_a_line_comes_back_and_is_one_line(value):
    text = journal.line(value)
    assert text.endswith(b"\n") and text.count(b"\n") == 1
    assert journal.parsed(text[:-1]) == value


def test_a_torn_or_changed_line_is_known():
    text = journal.line({"shard": "00007", "files": {"cat/a.png": "ab"}})[:-1]
    assert all(journal.parsed(text[:length]) is None for length in range(len(text)))
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1
        assert journal.parsed(bytes(changed)) is None, place


def test_differences_name_nested_settings_with_both_values():
    there = {"seed": 0, "config": {"eps": 8, "steps": 20}, "gone": {}, "same": [1]}
    now = {"seed": 0, "config": {"eps": 16, "steps": 20}, "new": None, "same": [1]}
    assert journal.differences(there, now) == [
        "config.eps: 8 there, 16 now",
        "gone: {} there, 'absent' now",
        "new: 'absent' there, None now",
    ]
    assert journal.differences(there, there) == []
    assert journal.differences({"a": 1}, {"a": 2}, ("in A", "in B")) == ["a: 1 in A, 2 in B"]
