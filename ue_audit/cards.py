"""What an exported set says of itself: a Hugging Face data set card, and Croissant 1.0 (JSON-LD). Pure text."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from ue_audit.budget import Budget
from ue_audit.config import show_fraction
from ue_audit.digests import to_json
from ue_audit.rendering.text import code, markdown, plain


class Step(NamedTuple):
    """One stage of a set's history, with the tree digest of what it wrote."""

    stage: str
    method: str
    budget: Budget | None
    config: Mapping[str, Any]
    tree: str
    versions: Mapping[str, str]


class Card(NamedTuple):
    """A set to be published; `history` is first step first, `figures` are columns of its metadata."""

    title: str
    images: int
    classes: tuple[str, ...]
    history: tuple[Step, ...]
    figures: tuple[str, ...]


WHAT = {
    "protect": "Protected images: imperceptible noise was added, so that models trained on them learn little "
    "(unlearnable examples).",
    "purify": "Purified images: a countermeasure was applied to protected images, to measure how much of the "
    "protection it removes.",
}
CARE = (
    "The images are lossless PNG. Compressing them with loss, resizing or filtering them weakens a protection. No "
    "protection is known to stop every learner; what this one withstood is in its audit, if one was published."
)
FIGURE_WORDS = {
    "width": "width in pixels",
    "height": "height in pixels",
    "linf": "largest change of this step, in levels of 0 to 255",
    "psnr": "PSNR of this step's change, in dB",
}


def describe(card: Card) -> str:
    """One paragraph: what the set is."""
    return f"{WHAT[card.history[-1].stage]} {CARE}"


def words(step: Step) -> str:
    """"protect emn, linf 8/255"."""
    return f"{step.stage} {step.method}{_budget(step.budget)}"


def _budget(budget: Budget | None) -> str:
    if budget is None or budget.norm == "none":
        return ""
    units = {"linf": show_fraction(budget.limit), "l2": f"{budget.limit:g} at 32 px", "l0": f"{budget.limit:g} pixels"}
    return f", {budget.norm} at most {units[budget.norm]}"


# -- Hugging Face ------------------------------------------------------------------------------------------------


def readme(card: Card) -> bytes:
    """README.md: the card's YAML, then the same for people. Names from outside are never markup."""
    parts = [f"# {markdown(card.title)}", markdown(describe(card)), _facts(card), "## How it was made"]
    parts += [part for number, step in enumerate(card.history, 1) for part in _step(number, step)]
    columns = [f"- {code('label')}: the class, by its place in the list above"] if card.classes else []
    columns += [f"- {code('sha256')} of the file; {code('pixels_sha256')} of WIDTHxHEIGHT, a line break, the RGB bytes"]
    columns += [f"- {code(name)}: {FIGURE_WORDS[name]}" for name in card.figures]
    parts += ["## Columns", "\n".join(columns), "## Licence", "Not known to the tool: add that of the images here."]
    return ("---\n" + yaml.safe_dump(_header(card), sort_keys=False) + "---\n\n" + "\n\n".join(parts) + "\n").encode()


def _header(card: Card) -> dict[str, Any]:
    """The fields that Hugging Face reads: the one place where numbers of classes get their names back."""
    features: list[dict[str, Any]] = [{"name": "image", "dtype": "image"}]
    if card.classes:
        names = {str(number): plain(name) for number, name in enumerate(card.classes)}
        features.append({"name": "label", "dtype": {"class_label": {"names": names}}})
    features += [{"name": name, "dtype": "string"} for name in ("sha256", "pixels_sha256")]
    types = {"width": "int64", "height": "int64", "linf": "int64", "psnr": "float64"}
    features += [{"name": name, "dtype": types[name]} for name in card.figures]
    files = [{"split": "train", "path": "train/**"}]
    return {
        "pretty_name": plain(card.title),
        "task_categories": ["image-classification"] if card.classes else ["unconditional-image-generation"],
        "size_categories": [_size(card.images)],
        "tags": ["unlearnable-examples", "ue-audit"],
        "configs": [{"config_name": "default", "data_files": files, "features": features}],
    }


def _size(images: int) -> str:
    """The hub's words for a number of rows."""
    bounds = {1000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for bound, name in bounds.items() if images < bound), "1M<n<10M")


def _facts(card: Card) -> str:
    last = card.history[-1]
    rows = [
        ("Images", str(card.images)),
        ("Classes", str(len(card.classes)) if card.classes else "none"),
        ("Made by", markdown(words(last))),
        ("Tree digest (dirHash1)", code(last.tree)),
        ("Tool", markdown(f"ue-audit {last.versions.get('ue-audit', '')}")),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _step(number: int, step: Step) -> Iterator[str]:
    yield f"{number}. {markdown(words(step))}; tree digest {code(step.tree)}"
    if step.config:
        yield "\n".join(f"   - {code(f'{key} = {value}')}" for key, value in sorted(step.config.items()))


# -- Croissant ---------------------------------------------------------------------------------------------------

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "includes": "cr:includes",
    "key": "cr:key",
    "md5": "cr:md5",
    "prov": "http://www.w3.org/ns/prov#",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "sc": "https://schema.org/",
    "source": "cr:source",
    "transform": "cr:transform",
}
TYPES = {"width": "sc:Integer", "height": "sc:Integer", "linf": "sc:Integer", "psnr": "sc:Float"}


def croissant(card: Card, table: bytes) -> bytes:
    """croissant.json: the images as a file set, their metadata (`table`, with a sha256 of each image) as a file."""
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": plain(card.title),
        "description": f"{describe(card)} Made by: {'; then '.join(words(step) for step in card.history)}.",
        "url": f"urn:sha256:{card.history[-1].tree}",
        "version": "1.0.0",
        "creator": {"@type": "sc:Organization", "name": "made with ue-audit"},
        "prov:wasDerivedFrom": [_derived(step) for step in card.history],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "metadata.csv",
                "name": "metadata.csv",
                "description": "One line an image, with the sha256 of its file.",
                "contentUrl": "metadata.csv",
                "contentSize": f"{len(table)} B",
                "encodingFormat": "text/csv",
                "sha256": hashlib.sha256(table).hexdigest(),
            },
            {
                "@type": "cr:FileSet",
                "@id": "image-files",
                "name": "images",
                "description": f"Every image; in-toto dirHash1 of the set: {card.history[-1].tree}",
                "encodingFormat": "image/png",
                "includes": "images/**/*.png",
            },
        ],
        "recordSet": list(_record_sets(card)),
    }
    return (to_json(document, indent=2) + "\n").encode()


def _derived(step: Step) -> dict[str, Any]:
    return {
        "@type": "prov:Entity",
        "name": words(step),
        "sha256": step.tree,
        "description": ", ".join(f"{key} = {value}" for key, value in sorted(step.config.items())),
    }


def _record_sets(card: Card) -> Iterator[dict[str, Any]]:
    """The classes, what the table says of each image, and the images themselves."""
    if card.classes:
        names = [_field("classes/label", "sc:Integer", "Its number."), _field("classes/name", "sc:Text", "Its name.")]
        data = [{"classes/label": number, "classes/name": plain(name)} for number, name in enumerate(card.classes)]
        yield _records("classes", "classes/label", names) | {"dataType": "sc:Enumeration", "data": data}
    columns = {"file_name": "sc:Text", **({"label": "sc:Integer"} if card.classes else {}), "sha256": "sc:Text"}
    columns |= {"pixels_sha256": "sc:Text"} | {name: TYPES[name] for name in card.figures}
    fields = [
        _field(f"metadata/{name}", kind, FIGURE_WORDS.get(name, name), {"fileObject": "metadata.csv"}, {"column": name})
        for name, kind in columns.items()
    ]
    for field in fields:
        if field["@id"] == "metadata/label":
            field["references"] = {"field": {"@id": "classes/label"}}
    yield _records("metadata", "metadata/file_name", fields)
    own = {"fileSet": "image-files"}
    path = _field("images/file_name", "sc:Text", "Its path.", own, {"fileProperty": "fullpath"})
    content = _field("images/content", "sc:ImageObject", "The image.", own, {"fileProperty": "content"})
    yield _records("images", "images/file_name", [path, content])


def _records(name: str, key: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "key": {"@id": key}, "field": fields}


def _field(
    name: str, kind: str, text: str, source: Mapping[str, str] | None = None, extract: Mapping[str, str] | None = None
) -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": name, "name": name, "description": text, "dataType": kind}
    if source is None:
        return field
    return field | {"source": {key: {"@id": value} for key, value in source.items()} | {"extract": dict(extract or {})}}
