"""Process images."""

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from app import Discard, job
from app.author import progress
from jobs._files import replacing, source, target

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
PIXEL_LIMIT = 50_000_000

Side = Annotated[int, Field(ge=1, le=10_000)]


@job(timeout=600)
def process(
    path: str,
    width: Side = 1200,
    quality: Annotated[int, Field(ge=1, le=95)] = 80,
    thumbnails: Annotated[tuple[Side, ...], Field(max_length=10)] = (128, 256),
) -> dict[str, Any]:
    """Turn an image of storage upright, scale it down to `width` pixels (never up), compress it into images/.

    Each thumbnail fits in a square of that many pixels. The format is JPEG, or WebP for an image with transparency; of
    an animation the first frame is used. Metadata (location, time, owner) is removed, the colour profile kept. The same
    file results in the same names, and replaces them.

    Returns:
        {"image": picture, "thumbnails": [picture]}, each {"path": str, "width": int, "height": int, "bytes": int}

    Raises:
        Discard: no such file, not an image, a damaged one, or one of more than 50 million pixels.
    """
    file = source(path)
    picture = _read(file)
    with file.open("rb") as content:
        name = f"images/{file.stem}-{hashlib.file_digest(content, 'sha256').hexdigest()[:12]}"
    height = max(1, round(picture.height * width / picture.width))
    sizes = [("", (width, height)), *((f"-{side}", (side, side)) for side in thumbnails)]
    saved = [
        _save(picture, f"{name}{suffix}", size, quality) for suffix, size in progress.track(sizes, message="scaling")
    ]
    return {"image": saved[0], "thumbnails": saved[1:]}


def _read(file: Path) -> "Image":
    """Read an image upright, in RGB or RGBA, with no metadata but its colour profile. Raises Discard."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as opened:  # reads the header only
                if opened.width * opened.height > PIXEL_LIMIT:
                    raise Discard(f"{file.name}: {opened.width} x {opened.height} is more than {PIXEL_LIMIT} pixels")
                upright = ImageOps.exif_transpose(opened)
                picture = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
                profile = opened.info.get("icc_profile") if upright.mode in ("RGB", "RGBA") else None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Discard(f"{file.name} has too many pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Discard(f"{file.name} cannot be read as an image: {error}") from None
    picture.info = {"icc_profile": profile} if profile else {}
    return picture


def _save(picture: "Image", name: str, size: tuple[int, int], quality: int) -> dict[str, Any]:
    scaled = picture.copy()
    scaled.thumbnail(size)
    extension, kind = (".webp", "WEBP") if scaled.mode == "RGBA" else (".jpg", "JPEG")
    file = target(name + extension)
    with replacing(file) as partial:
        scaled.save(partial, kind, quality=quality, optimize=True, icc_profile=picture.info.get("icc_profile"))
    return {"path": name + extension, "width": scaled.width, "height": scaled.height, "bytes": file.stat().st_size}
