"""Which published figures an accuracy may stand beside. Pure: no manifests, no files but the presets, no torch.

A figure is comparable with a training of ours where all of these hold; otherwise those that do not are named:

    data set        recognised by its class names and size (`recognise`), and as many training images, to 1 %
    learner         the method, its published settings (network, radius of the attack, probe), epochs within a factor 2
    protection      the method within its published budget, all images protected, every field of its preset equal; a set
                    made by another tool counts by the method it was imported as
    countermeasure  the purifier, every field of its preset equal
    the rest        images of the prior and of the attacker's own, where the figure depends on them: no manifest says
                    which data set those are of, so that such figures are never comparable

What else is known to differ is said beside a comparable figure.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ue_audit.budget import Budget
from ue_audit.config import parse_fraction, show_fraction
from ue_audit.published import Dataset, Figure, Published, Recipe

IMAGES = 0.01  # by this share the number of training images may differ
EPOCHS = 2.0  # by this factor the number of epochs may differ


# -- what was measured -------------------------------------------------------------------------------------


class Images(NamedTuple):
    """What manifests know of the images: class names, working size, numbers; `lossy`: some are JPEG files."""

    classes: tuple[str, ...]
    size: int | None
    train: int
    test: int
    lossy: bool = False

    @property
    def shape(self) -> str:
        """The images of each class, "4 x 500", or all of them, "3,680", where classes are uneven."""
        each, rest = divmod(self.train, len(self.classes) or 1)
        return f"{self.train:,}" if rest or not self.classes else f"{len(self.classes)} x {each:,}"


class Made(NamedTuple):
    """A method as it was used; `config` None: by another tool."""

    method: str
    config: Mapping[str, Any] | None
    budget: Budget | None = None
    ratio: float = 1.0


@dataclass(frozen=True)
class Subject:
    """One training set under one learner."""

    images: Images
    learner: Made
    epochs: int
    protection: Made | None = None
    purifier: Made | None = None
    known: bool = field(default=True)  # False: a manifest that says how the set was made is missing


def recognise(found: Images, datasets: Mapping[str, Dataset]) -> str | None:
    """The data set that the images are taken for; None where names, size or numbers do not say so."""
    return next((name for name, dataset in datasets.items() if _is(found, dataset)), None)


def _is(found: Images, dataset: Dataset) -> bool:
    named = {_plain(name) for name in found.classes} == {_plain(name) for name in dataset.classes}
    counted = (found.train, found.test) == (dataset.train, dataset.test) or not dataset.by_counts
    return bool(dataset.classes) and named and counted and found.size == dataset.size and found.lossy <= dataset.lossy


def _plain(name: str) -> str:
    return name.casefold().replace(" ", "_").replace("-", "_")


# -- what may stand beside it ------------------------------------------------------------------------------


class Match(NamedTuple):
    """The figures that are comparable; without any, the nearest one and what differs, all of it."""

    figures: tuple[Figure, ...]
    nearest: Figure | None = None
    because: tuple[str, ...] = ()


def compare(subject: Subject, published: Published) -> Match:
    """What was published of this training set, learner and countermeasure."""
    if not subject.known:
        return Match((), None, ("how the images were made is not known: a manifest is missing",))
    alike = [figure for figure in published.figures() if _same_methods(subject, figure, published)]
    if not alike:
        return Match((), None, ("no figure of these methods together is known to ue-audit",))
    recognised = recognise(subject.images, published.datasets)
    found = [(figure, differences(subject, figure, published, recognised)) for figure in alike]
    equal = tuple(figure for figure, differing in found if not differing)
    return Match(equal) if equal else Match((), *min(found, key=lambda pair: len(pair[1])))


def _same_methods(subject: Subject, figure: Figure, published: Published) -> bool:
    pairs = (
        (subject.protection, published.protections.get(figure.protection), figure.protection),
        (subject.purifier, published.purifiers.get(figure.purifier), figure.purifier),
        (subject.learner, published.learners[figure.at.learner], figure.at.learner),
    )
    return all(_same_method(*pair) for pair in pairs)


def _same_method(made: Made | None, recipe: Recipe | None, name: str) -> bool:
    """A set that was imported may be of a foreign method, by its name."""
    if made is None or recipe is None:
        return made is None and recipe is None
    return made.method == recipe.method or (made.config is None and made.method == name)


def differences(subject: Subject, figure: Figure, published: Published, recognised: str | None) -> tuple[str, ...]:
    """Every condition that does not hold, the data set's first."""
    at, wanted = figure.at, published.learners[figure.at.learner]
    found = [*_images(subject.images, figure, published, recognised)]
    found += _settings(subject.learner, wanted.fields("evaluate"))
    if at.epochs is not None and not 1 / EPOCHS <= subject.epochs / at.epochs <= EPOCHS:
        found.append(f"{subject.epochs:,} epochs instead of {at.epochs:,}")
    if subject.protection is not None:
        found += _protection(subject.protection, published.protections[figure.protection])
    if subject.purifier is not None:
        found += _settings(subject.purifier, published.purifiers[figure.purifier].fields("purify"))
    if at.prior is not None:
        found.append(f"a prior not known to be trained on: {at.prior}")
    if at.own is not None:
        found.append(f"clean images of the attacker's own in a number not recorded instead of {at.own:,}")
    return tuple(found)


def remarks(subject: Subject, figure: Figure, published: Published) -> tuple[str, ...]:
    """What else differs, or is not known, where a figure is comparable."""
    at, dataset = figure.at, published.datasets[figure.at.dataset]
    found = [at.note] if at.note else []
    if at.epochs is None:
        found.append("its epochs are not published")
    elif at.epochs != subject.epochs:
        found.append(f"{subject.epochs:,} epochs instead of {at.epochs:,}")
    if dataset.test is not None and subject.images.test != dataset.test:
        found.append(f"{subject.images.test:,} test images instead of {dataset.test:,}")
    if subject.protection is not None and subject.protection.config is None:
        found.append("protected by another tool")
    return (*found, "one run") if at.runs == 1 else tuple(found)


def _images(found: Images, figure: Figure, published: Published, recognised: str | None) -> Iterator[str]:
    at, dataset = figure.at, published.datasets[figure.at.dataset]
    used, whole = at.images or dataset.train, dataset.train
    if recognised == at.dataset:
        if used and not _near(found.train, used):
            yield f"{found.shape} images instead of {used:,}"
    elif whole and not any(_near(found.train, number) for number in (used, whole) if number):
        yield f"{found.shape} images instead of {dataset.title}'s {whole:,}"
    else:
        files = ", being JPEG files" if found.lossy and not dataset.lossy else ""
        yield f"images that cannot be taken for {dataset.title}{files}"


def _near(number: int, published: int) -> bool:
    return abs(number / published - 1) <= IMAGES


def _protection(made: Made, recipe: Recipe) -> Iterator[str]:
    limits = {norm: getattr(recipe, norm) for norm in ("linf", "l2", "l0") if getattr(recipe, norm) is not None}
    for norm, limit in limits.items():
        kept = made.budget is not None and made.budget.norm == norm and _equal(made.budget.limit, limit)
        if not kept:
            yield f"another budget than {norm} {show_fraction(limit) if norm == 'linf' else _shown(limit)}"
    if made.ratio < 1:
        yield f"{100 * made.ratio:g} % of the images protected instead of all"
    yield from _settings(made, recipe.fields("protect"))


def _settings(made: Made, wanted: Mapping[str, Any]) -> Iterator[str]:
    config = wanted if made.config is None else made.config  # another tool's are not known
    for key, value in wanted.items():
        have = config.get(key, "something not recorded")
        if not _equal(have, value):
            what = "" if key == "backbone" else f"{made.method}'s {key} "
            yield f"{what}{_shown(have)} instead of {_shown(value)}"


def _equal(a: Any, b: Any) -> bool:
    """Numbers and fractions by value, anything else as it is."""
    a, b = _number(a), _number(b)
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return math.isclose(a, b, rel_tol=1e-6) if numbers else bool(a == b)


def _number(value: Any) -> Any:
    try:
        return parse_fraction(value)
    except ValueError:
        return value


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
