"""Text from outside (file, class and preset names, manifests) made harmless for each form it is shown in.

`plain` shows what would act or hide; `safe`, `markdown` and jinja's autoescape (on `plain`) then quote what has a
meaning in a terminal, in Markdown and in HTML.
"""

import re
import unicodedata

from rich.markup import escape

_INTERVAL = r"\[−?[\d.]+, −?[\d.]+\](?![(\[:])"  # the one use of brackets that stays, "[0.11, 0.18]"
_OPENING = r"[\\`*_\[\]<>#|~&@$]|:(?=\S)|(?<=www)\.|^[-+=]|^\d+(?=[.)](?:\s|$))"
_MARKDOWN = re.compile(f"({_INTERVAL})|{_OPENING}", re.IGNORECASE)
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, format (bidi, zero width), lone surrogates, separators


def plain(text: object) -> str:
    r"""Text on one line in which nothing acts or hides: ESC becomes the four characters \x1b, U+202E \u202e."""
    return "".join(_show(c) if unicodedata.category(c) in _ACTING else c for c in str(text))


def safe(text: object) -> str:
    """The same as rich markup: a class called `[/nope]` is printed, not obeyed."""
    return escape(plain(text))


def markdown(text: object) -> str:
    """The same as Markdown: every character that could open something is written as an HTML entity.

    Entities rather than backslashes: they also hold within table cells and are never a line's marker.
    """
    return _MARKDOWN.sub(lambda found: found[1] or "".join(f"&#{ord(c)};" for c in found[0]), plain(text))


def code(text: object) -> str:
    """The same as a Markdown code span, its fence longer than any run of backticks inside."""
    shown = plain(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


def _show(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
