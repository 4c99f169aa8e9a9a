"""A protected set of another tool beside the clean one it was made from, row by row the same picture.

Pairs are found by their paths alone; everything that has no counterpart, or several, is refused at once.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ue_audit import imagefolder, manifest
from ue_audit.budget import Budget
from ue_audit.errors import InputRefused, IntegrityError, UsageError
from ue_audit.imagefolder import Entry, Intake, Listing, Parts, Pixels
from ue_audit.names import composed, fold, printable
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import AdoptSettings

THUMB = 8  # px: what the intake keeps of images that are read again at their own size


class Pairs(NamedTuple):
    """(clean, protected) by clean path; those without a counterpart; in words, those with several."""

    matched: list[tuple[Entry, Entry]]
    no_protected: list[Entry]
    no_clean: list[Entry]
    unclear: list[str]


def pair(clean: Iterable[Entry], protected: Iterable[Entry], *, flat: bool) -> Pairs:
    """Each clean image with the protected one of the same path, of its path + ".png", or of another ending; at last of
    the same but for case.

    flat: the protected images lie in one folder, and are known by name alone. The Unicode form of a name does not
    matter. A step takes what it can tell apart on both sides, and leaves the rest to the next.
    """
    left, right, matched = list(clean), list(protected), []
    for of_clean, of_protected in STEPS:
        wanted, found = _grouped(left, of_clean, flat), _grouped(right, of_protected, flat)
        clear = [key for key in wanted if len(wanted[key]) == len(found.get(key, ())) == 1]
        matched += [(wanted.pop(key)[0], found.pop(key)[0]) for key in clear]
        left, right = ([entry for group in groups.values() for entry in group] for groups in (wanted, found))
    unclear = wanted.keys() & found.keys()
    return Pairs(
        sorted(matched),
        sorted(entry for key, group in wanted.items() if key not in unclear for entry in group),
        sorted(entry for key, group in found.items() if key not in unclear for entry in group),
        sorted(f"{_named(wanted[key])}: could be {_named(found[key])}" for key in unclear),
    )


def _same(path: str) -> str:
    return path


def _without_png(path: str) -> str:
    return path.removesuffix(".png")


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _folded(path: str) -> str:
    return fold(_stem(path))


Key = Callable[[str], str]
STEPS: tuple[tuple[Key, Key], ...] = ((_same, _same), (_same, _without_png), (_stem, _stem), (_folded, _folded))


def _grouped(entries: Iterable[Entry], key: Key, flat: bool) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        path = composed(entry.path)
        groups.setdefault(key(PurePosixPath(path).name if flat else path), []).append(entry)
    return groups


def _named(entries: list[Entry]) -> str:
    return " or ".join(printable(entry.path) for entry in entries)


# -- both sets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sets:
    """The two sets, row by row the same picture, and what lies about them."""

    parts: Parts
    clean: Intake
    protected: Intake
    foreign: Listing
    flat: bool
    left_out: int

    def pair(self, row: int, size: int | None) -> tuple[Pixels, Pixels]:
        """(x, x_ue) of a row: at S x S, or at the size x_ue was saved in."""
        if size is not None:
            return self.clean.data.pixels[row], self.protected.data.pixels[row]
        return self.clean.native(row), self.protected.native(row)

    def __len__(self) -> int:
        return len(self.clean.sources)



def take_in(settings: AdoptSettings, progress: Progress = SILENT) -> Sets:
    """Both folders, paired and decoded. Raises InputRefused listing everything that has no counterpart."""
    parts, root = imagefolder.parts(settings.clean), imagefolder.parts(settings.source).train
    for folder, what in ((parts.train, "clean images"), (root, "images protected by another tool")):
        if manifest.find(folder) is not None:
            raise UsageError(f"expected {what}, found an output of ue-audit: {folder}", hint="use it as it is")
    if parts.train.resolve() == root.resolve():
        raise UsageError(f"expected two folders, found {root} as protected and as clean images")
    listing, foreign = imagefolder.scan(parts.train), imagefolder.scan(root, flat=None)
    flat = not foreign.classes
    pairs = pair(listing.entries, foreign.entries, flat=flat)
    _check_pairs(pairs, settings, listing, foreign)
    asked = listing if settings.limit is None else imagefolder.scan(parts.train, limit=settings.limit)
    how: dict[str, Any] = {"size": settings.size or THUMB, "progress": progress}
    if settings.size is not None:
        how["array"] = imagefolder.spill(settings.cache or settings.place().parent)
    clean = imagefolder.intake(asked, on_bad=settings.on_bad, max_bad=settings.max_bad, **how)
    partner = {c.path: Entry(p.path, c.label, p.file) for c, p in pairs.matched}
    entries = tuple(partner[source.path] for source in clean.sources)
    strays = foreign.refused if settings.on_bad == "stop" else ()
    left_out = len(foreign.refused) - len(strays) + len(pairs.no_clean)
    protected = imagefolder.intake(Listing(root, entries, clean.data.classes, strays), **how)
    sets = Sets(parts, clean, protected, foreign, flat, left_out)
    if settings.size is None:
        _check_sizes(sets)
    return sets


def _check_pairs(pairs: Pairs, settings: AdoptSettings, clean: Listing, foreign: Listing) -> None:
    lacking = [f"{printable(entry.path)}: no protected image" for entry in pairs.no_protected]
    extra = [f"{printable(entry.path)}: no clean image" for entry in pairs.no_clean]
    few = len(extra) <= settings.max_bad * len(foreign.entries)
    if settings.on_bad == "skip" and few:
        extra = []
    problems = [*pairs.unclear, *lacking, *extra]
    if problems:
        raise InputRefused(
            f"{len(clean.entries)} clean images in {clean.root} and {len(foreign.entries)} protected ones in "
            f"{foreign.root}: {len(problems)} cannot be paired",
            hint="expected the same class folders and names (endings may differ); an image that was left "
            "unprotected is copied from the clean ones; --on-bad skip leaves out a few without a clean image",
            details=problems,
        )


def _check_sizes(sets: Sets) -> None:
    rows = list(zip(sets.clean.sources, sets.protected.sources, strict=True))
    other = [(x, y) for x, y in rows if (x.width, x.height) != (y.width, y.height)]
    if other:
        raise UsageError(
            f"expected protected images of the size of their originals, found {len(other)} of {len(rows)} of another",
            hint=f"take both sets at one size: --size {max(8, min(min(y.width, y.height) for _, y in other))}",
            details=[f"{printable(y.path)}: {y.width}x{y.height}, clean {x.width}x{x.height}" for x, y in other],
        )


def check_budget(sets: Sets, budget: Budget, size: int | None, progress: Progress) -> None:
    """Every image against the budget that the other tool is said to have kept, the worst first."""
    if budget.norm == "none":
        return
    progress.start("checking the budget", len(sets))
    over = []
    for row, source in enumerate(sets.protected.sources):
        x, x_ue = sets.pair(row, size)
        if not budget.holds(x, x_ue):
            found, limit = budget.measure(x, x_ue), budget.at(*x.shape[:2])
            over.append((found / limit, source.path, _amount(budget, found), _amount(budget, limit)))
        progress.advance()
    progress.stop()
    if over:
        over.sort(key=lambda item: (-item[0], item[1]))
        raise IntegrityError(
            f"{len(over)} of {len(sets)} images were changed by more than the budget; the worst by {over[0][2]}, "
            f"allowed are {over[0][3]}",
            hint="was the set compressed or resized? Without --set it is imported with the changes it has",
            details=[f"{printable(path)}: {found}, allowed {limit}" for _, path, found, limit in over],
        )


def _amount(budget: Budget, value: float) -> str:
    if budget.norm == "linf":
        return f"{255 * value:g} levels"
    return f"an L2 of {value:.4f}" if budget.norm == "l2" else f"{value:g} pixels"
