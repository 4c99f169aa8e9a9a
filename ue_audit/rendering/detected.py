"""What `ue-audit detect` says, as markup for a terminal."""

from collections.abc import Mapping
from typing import Any

from ue_audit.rendering.text import safe

SAYS = {
    "yes": "[bold]protected[/]",
    "likely": "[bold]likely protected[/]",
    "no evidence": "[bold]no evidence of a protection[/]",
}
TITLES = {
    "pixels": "linear classifier, pixels",
    "two_layer": "two-layer classifier, pixels",
    "shifted": "two-layer, learnt 0.5 brighter or darker",
    "spectrum": "linear classifier, spectrum",
    "fragile": "spectrum, lost under JPEG",
    "colour": "pixels, lost in grey",
    "mean_low": "class means, low frequencies",
    "mean_mid": "class means, mid frequencies",
    "mean_high": "class means, high frequencies",
    "one_pixel": "classes with one pixel in common",
}


def lines(found: Mapping[str, Any]) -> str:
    """Verdict, probes beside what clean sets show, what cheap countermeasures leave, warnings."""
    shown = [f"{safe(found['folder'])}: {SAYS[found['protected']]}{_kind(found)}"]
    shown.append(f"  {found['images']} images of {found['size']} px in {found['classes']} classes")
    shown += ["", f"  {'probe':40}  found  clean  bound"]
    shown += [_row(row) for row in found["probes"]]
    shown += ["", f"  {'after':40}  pixels  spectrum"]
    shown += [f"  {name:40}  {row['pixels']:6.3f}  {row['spectrum']:8.3f}" for name, row in found["after"].items()]
    if found.get("change") is not None:
        shown += ["", *_change(found["change"])]
    shown += [f"[yellow]warning[/]: {safe(text)}" for text in found["warnings"]]
    if found["suggestions"]:
        shown += ["", f"  try first: {safe(', '.join(found['suggestions']))} (ue-audit purify --method NAME)"]
    elif found["protected"] != "no evidence":
        shown += ["", "  no cheap countermeasure takes it out: ue-audit list purifiers"]
    return "\n".join(shown)


def _kind(found: Mapping[str, Any]) -> str:
    words = [*(["coloured"] if found["coloured"] else []), *([found["kind"]] if found["kind"] else [])]
    return f", {safe(', '.join(words))}" if words else ""


def _row(row: Mapping[str, Any]) -> str:
    figures = f"{row['found']:6.3f} {row['clean']:6.3f} {row['bound']:6.3f}"
    p = f"  p {row['p']:.2f}" if "p" in row else ""
    return f"  {TITLES[row['probe']]:40} {figures}{p}{'  [bold]beyond[/]' if row['beyond'] else ''}"


def _change(change: Mapping[str, Any]) -> list[str]:
    if change["kind"] is None:
        return ["  against the clean images: nothing was changed"]
    facts = [f"{change['images_changed']:.0%} of the images", f"up to {change['levels']} levels", change["kind"]]
    bands = ", ".join(f"{name} {change[name]:.2f}" for name in ("low", "mid", "high"))
    read = "not measured" if change["separability"] is None else f"{change['separability']:.2f}"
    return [
        f"  against the clean images: {safe(', '.join(facts))}",
        f"    frequencies: {bands}; grey {change['grey']:.2f}",
        f"    in the means of classes: {change['class_means']:.2f}; class read off it linearly: {read}",
    ]
