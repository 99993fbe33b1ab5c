"""Pictures for a file that carries everything: made small, and counted against a budget."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

BUDGET = 6_000_000  # characters of all pictures together; the rest of the page stays below 2 MB
JPEG_QUALITY = 80
RAW_LIMIT = 200_000  # bytes that a picture may have as it is, without Pillow


@dataclass
class Album:
    """Turns image files into data URIs until the budget is spent."""

    left: int = BUDGET
    skipped: list[str] = field(default_factory=list)

    def take(self, path: Path, side: int) -> str | None:
        """An image as a data URI with its longer side at most ``side`` pixels.

        None when it cannot be read or the budget is spent: a report is not stopped by a picture.
        """
        if self.left <= 0:
            self.skipped.append(path.name)
            return None
        try:
            uri = data_uri(path, side)
        except (OSError, ValueError, SyntaxError):  # Pillow says SyntaxError of broken PNGs
            return None
        if uri is None or len(uri) > self.left:
            self.skipped.append(path.name)
            return None
        self.left -= len(uri)
        return uri


def data_uri(path: Path, side: int) -> str | None:
    """JPEG through Pillow; without it the file as it is, when it is small enough and no other kind."""
    try:
        from PIL import Image
    except ImportError:
        raw = path.read_bytes()
        kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}.get(path.suffix.lower())
        if kind is None or len(raw) > RAW_LIMIT:
            return None
        return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"
    with Image.open(path) as opened:
        picture = opened.convert("L" if opened.mode in ("1", "L", "I;16", "I") else "RGB")
        picture.thumbnail((side, side))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
