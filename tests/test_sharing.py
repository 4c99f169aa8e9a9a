"""Parts of a set: how they are spelled, what each gets, where they lie."""

from pathlib import Path

import pytest

from ue_audit import sharing
from ue_audit.config import resolve
from ue_audit.errors import UsageError
from ue_audit.settings import PurifySettings
from ue_audit.spelling import MODELS, command, made_by, recorded


@pytest.mark.parametrize(
    ("text", "found"), [("1/1", (1, 1)), ("2/4", (2, 4)), (" 02/10 ", (2, 10)), ("9999/9999", (9999, 9999))]
)
def test_what_is_a_part(text, found):
    assert sharing.parse(text) == found


NONE = ["", "1", "0/2", "3/2", "-1/2", "1/0", "0/0", "1/2/3", "a/b", "1.5/2", "1/10000", "١/٢"]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_part(text):
    told = f"expected a part I/N, such as 1/4 to 4/4, found {text!r}"
    with pytest.raises(ValueError) as wrong:
        sharing.parse(text)
    assert str(wrong.value) == told
    with pytest.raises(UsageError) as refused:
        resolve(PurifySettings, {"flag": {"source": "x", "shard": text}}, "purify")
    assert refused.value.details == (f"shard = {text!r} (flag): {told}",)


@pytest.mark.parametrize("shards", [0, 1, 4, 7, 98])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_are_even_and_every_shard_is_in_one(shards, count):
    listed = [range(k, k + 1) for k in range(shards)]
    dealt = [sharing.dealt(listed, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(k for part in dealt for k in part) == list(range(shards))
    assert all(listed[k] == rows for part in dealt for k, rows in part.items())
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_without_a_part_all_shards_are_done():
    assert sharing.dealt([range(4), range(4, 6)], None) == {0: range(4), 1: range(4, 6)}


def test_parts_lie_beside_the_whole():
    asked = PurifySettings(source=Path("data.emn"), shard="02/4")
    assert asked.place() == Path("data.emn.jcdp.shard-2-of-4")
    assert asked.model_copy(update={"output": Path("there/grey")}).place() == Path("there/grey.shard-2-of-4")
    assert sharing.whole_of(Path("there/grey.shard-2-of-4")) == Path("there/grey")
    with pytest.raises(UsageError, match="NAME.shard-I-of-N"):
        sharing.whole_of(Path("there/grey"))


def test_the_line_that_makes_a_part():
    asked = PurifySettings(source=Path("data.emn"), shard="2/4")
    line = "ue-audit purify --shard 2/4 data.emn"
    assert command("purify", asked) == made_by("purify", recorded(asked)) == line
    assert command("merge", MODELS["merge"](folders=(Path("a"), Path("b")))) == "ue-audit merge a b"
