"""One set shared out among processes: `purify --shard 2/4` makes the second of four parts, `merge` one set of all four.

A part takes whole shards of the work, every n-th one. So each image is purified in the same batch with the same random
numbers as in one process, and no part has two shards more than another. With fewer shards than parts the last parts
are empty: a script need not know how large a set is.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from ue_audit.errors import UsageError

FORM = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
ENDING = re.compile(r"(.+)\.shard-[0-9]+-of-([0-9]+)")


def parse(text: str) -> tuple[int, int]:
    """"2/4" -> (2, 4), the second of four. Raises ValueError unless 1 <= I <= N <= 9999."""
    found = FORM.fullmatch(text.strip())
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"expected a part I/N, such as 1/4 to 4/4, found {text!r}")
    return number, count


def spelled(number: int, count: int) -> str:
    """(2, 4) -> "2/4"."""
    return f"{number}/{count}"


Shard = Annotated[str, AfterValidator(lambda text: spelled(*parse(text)))]
"""One part of several, "2/4"; None stands for the whole."""


def dealt(listed: Sequence[range], shard: str | None) -> dict[int, range]:
    """The shards of a part, by their number in the whole."""
    number, count = parse(shard) if shard else (1, 1)
    return {k: listed[k] for k in range(number - 1, len(listed), count)}


# -- where parts lie -----------------------------------------------------------------------------------------


def place(whole: Path, shard: str | None) -> Path:
    """Where a part of the output `whole` lies: beside it, as "data.emn.jcdp.shard-2-of-4"."""
    if shard is None:
        return whole
    from ue_audit.storage import beside  # loads filelock, which help need not wait for

    return beside(whole, ".shard-{}-of-{}".format(*parse(shard)))


def whole_of(part: Path) -> Path:
    """Where the whole of a part goes, judged by the part's name. Raises UsageError for another name."""
    found = ENDING.fullmatch(part.name)
    if found is None:
        raise UsageError(
            f"expected a part called NAME.shard-I-of-N, found {part}", hint="name the merged set: -o data.emn.jcdp"
        )
    return part.with_name(found[1])


def beside_it(part: Path) -> list[Path]:
    """The part and all that belong to it by name and lie beside it, first to last."""
    found = ENDING.fullmatch(part.name)
    if found is None:
        return [part]
    count = int(found[2])
    others = {number: place(whole_of(part), spelled(number, count)) for number in range(1, min(count, 9999) + 1)}
    return [path for path in others.values() if path.exists() or path == part] or [part]
