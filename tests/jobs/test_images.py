"""Real pictures, and what only looks like one."""

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from app import Discard
from jobs.images import process


def jpeg(file: Path, size: tuple[int, int], orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = orientation, "the owner"
    Image.new("RGB", size, "red").save(file, exif=exif, comment=b"a secret")


def test_scaled_and_stripped_with_thumbnails(storage: Path) -> None:
    jpeg(storage / "photo.jpg", (2400, 1600))
    result = process("photo.jpg")
    assert [(p["width"], p["height"]) for p in [result["image"], *result["thumbnails"]]] == [
        (1200, 800),
        (128, 85),
        (256, 171),
    ]
    for picture in [result["image"], *result["thumbnails"]]:
        file = storage / picture["path"]
        assert file.parent == storage / "images"
        assert file.stat().st_size == picture["bytes"]
        with Image.open(file) as saved:
            assert not saved.getexif()
            assert "comment" not in saved.info
    assert process("photo.jpg") == result
    assert len(list((storage / "images").iterdir())) == 3


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), None])
def test_the_colour_profile_is_kept(storage: Path, profile: bytes | None) -> None:
    Image.new("RGB", (300, 200), "red").save(storage / "photo.jpg", icc_profile=profile)
    result = process("photo.jpg")
    for picture in [result["image"], *result["thumbnails"]]:
        with Image.open(storage / picture["path"]) as saved:
            assert saved.info.get("icc_profile") == profile


def test_turned_upright(storage: Path) -> None:
    jpeg(storage / "photo.jpg", (200, 100), orientation=6)
    image = process("photo.jpg")["image"]
    assert (image["width"], image["height"]) == (100, 200)


def test_never_scaled_up(storage: Path) -> None:
    jpeg(storage / "photo.jpg", (50, 40))
    result = process("photo.jpg", thumbnails=(10, 100))
    assert [p["width"] for p in [result["image"], *result["thumbnails"]]] == [50, 10, 50]


def test_less_quality_is_smaller(storage: Path) -> None:
    Image.effect_noise((200, 200), 50).convert("RGB").save(storage / "noise.png")
    assert process("noise.png", quality=20)["image"]["bytes"] < process("noise.png", quality=90)["image"]["bytes"]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept(storage: Path, mode: str) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).convert(mode).save(
        storage / "a.png", transparency=0 if mode == "P" else None
    )
    path = process("a.png")["image"]["path"]
    with Image.open(storage / path) as saved:
        assert saved.mode == "RGBA"
        assert saved.getpixel((5, 5))[3] == 0  # type: ignore[index]


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 10_000, 60_000])
def test_a_bomb_is_refused_by_its_header(storage: Path, side: int) -> None:
    (storage / "bomb.png").write_bytes(bomb(side, side))
    with pytest.raises(Discard, match="pixels"):
        process("bomb.png")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bomb(5, 5)[:45]]
)
def test_no_picture_is_refused(storage: Path, content: bytes) -> None:
    (storage / "a.png").write_bytes(content)
    with pytest.raises(Discard, match="cannot be read as an image"):
        process("a.png")


def test_a_file_outside_storage_is_refused() -> None:
    with pytest.raises(Discard, match="storage"):
        process("../photo.jpg")
