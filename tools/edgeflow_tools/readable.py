"""Whether a folder may be read: what may not must not look like what is not there."""

from __future__ import annotations

import os
from pathlib import Path


def refused(folder: Path) -> str:
    """Return why a folder, or something below it, cannot be read; empty when all can, or it is not there."""
    try:
        folder.stat()
        for place, _, names in os.walk(folder, onerror=_raise):
            for name in names:
                Path(place, name).open("rb").close()
    except FileNotFoundError:  # it is not there, or has just gone
        return ""
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def _raise(error: OSError) -> None:
    raise error
