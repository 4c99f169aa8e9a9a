"""The built-in real images of `ue-audit demo`: 7,400 CIFAR-10 images of four classes (SOURCE.md, make.py)."""

import zipfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("images.zip")


def unpack(destination: Path) -> Path:
    """Write train/, test/, val/ and raw/ below `destination` (files already there are kept); returns it."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        for entry in archive.infolist():
            file = destination / entry.filename
            if not file.exists() or file.stat().st_size != entry.file_size:
                archive.extract(entry, destination)
    return destination
