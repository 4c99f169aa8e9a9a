"""The labels a method needs, or a clear refusal."""

from typing import Any

from torch import Tensor

from ue_audit.errors import UsageError


def labels_of(data: Any) -> Tensor:
    """The labels, or UsageError where there is nothing to tell apart."""
    if data.labels is None or len(data.classes) < 2:
        found = "images without class folders" if data.labels is None else f"{len(data.classes)} class"
        raise UsageError(
            f"this protection needs two class folders or more, found {found}",
            hint="put the images of each class into a folder of its own",
        )
    return data.labels  # type: ignore[no-any-return]
