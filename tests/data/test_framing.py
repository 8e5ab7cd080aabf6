"""Pictures of every mode, size and format as arrays of one shape and type, and what is none."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaekit.data.framing import SUFFIXES, BadPicture, Facts, Frame, frame_of, is_mask, look, pixels

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
DARK = RNG.integers(0, 200, (6, 5), dtype=np.uint16)  # of 65,536 levels: black, if it is cut to 8 bits
MASK = RNG.integers(0, 2, (6, 5), dtype=np.uint8) * 255
WHOLE = Frame((6, 5), grey=True)


def save(path: Path, image: Image.Image | np.ndarray, **settings) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **settings)
    return path


def array(path: Path, frame: Frame) -> np.ndarray:
    values = pixels(path, frame)
    assert values.shape == frame.shape
    assert values.dtype == frame.dtype
    return values


MODES = {  # of a grey picture: what it is saved from, in which format, its depth, and its values at that depth
    "1": (Image.fromarray(MASK).convert("1"), "png", 1, MASK // 255),
    "L": (Image.fromarray(GREY), "png", 8, GREY),
    "LA": (Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (5, 6), 255)]), "png", 8, GREY),
    "P, grey": (Image.fromarray(GREY).convert("P"), "png", 8, GREY),
    "I;16": (Image.fromarray(DARK), "png", 16, DARK),
    "I;16B": (Image.frombytes("I;16B", (5, 6), DARK.astype(">u2").tobytes()), "tiff", 16, DARK),
    "I": (Image.fromarray(DARK.astype(np.int32)), "tiff", 16, DARK),
    "F": (Image.fromarray(DARK.astype(np.float32) / 7), "tiff", 32, DARK.astype(np.float32) / 7),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_grey_picture_of_any_mode_keeps_all_its_levels(tmp_path: Path, mode: str) -> None:
    image, suffix, depth, expected = MODES[mode]
    path = save(tmp_path / f"picture.{suffix}", image)
    facts = look(path)
    assert facts == Facts((6, 5), True, depth)
    frame = frame_of([facts], facts.size)
    np.testing.assert_array_equal(array(path, frame), expected[None])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "YCbCr", "HSV"])
def test_a_picture_of_colours_is_red_green_and_blue_or_grey_by_a_setting(tmp_path: Path, mode: str) -> None:
    plain = Image.fromarray(COLOUR)
    path = save(tmp_path / "picture.tiff", plain.convert(mode)) if mode != "HSV" else save(tmp_path / "p.png", plain)
    shown = plain.quantize().convert("RGB") if mode == "P" else plain.convert(mode).convert("RGB")
    facts = look(path)
    assert facts == Facts((6, 5), False, 8)
    expected = np.moveaxis(np.asarray(plain if mode in ("RGB", "HSV") else shown), 2, 0)
    found = array(path, frame_of([facts], facts.size))
    assert np.abs(found.astype(int) - expected).max() <= (60 if mode == "P" else 2)
    grey = array(path, frame_of([facts], facts.size, colour="grey"))
    assert np.abs(grey[0].astype(int) - np.asarray(Image.fromarray(np.moveaxis(found, 0, 2)).convert("L"))).max() <= 2


def test_grey_pictures_among_colours_have_three_equal_channels(tmp_path: Path) -> None:
    grey, dark = save(tmp_path / "grey.png", GREY), save(tmp_path / "dark.png", DARK * 300)
    colour = save(tmp_path / "colour.png", COLOUR)
    frame = frame_of(map(look, (grey, dark, colour)), (6, 5))
    assert (frame.grey, frame.depth) == (False, 8)
    np.testing.assert_array_equal(array(grey, frame), np.stack([GREY] * 3))
    np.testing.assert_array_equal(array(dark, frame), np.stack([np.round(DARK * 300.0 / 257)] * 3))
    alone = frame_of([look(grey)], (6, 5), colour="colour")
    np.testing.assert_array_equal(array(grey, alone), np.stack([GREY] * 3))


def test_the_deepest_grey_picture_decides_and_the_others_are_spread(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png", Image.fromarray(MASK).convert("1")), save(tmp_path / "b.png", GREY)]
    frame = frame_of(map(look, paths), (6, 5))
    assert frame.depth == 8
    np.testing.assert_array_equal(array(paths[0], frame)[0], MASK)
    paths += [save(tmp_path / "c.png", DARK)]
    frame = frame_of(map(look, paths), (6, 5))
    assert frame.depth == 16
    np.testing.assert_array_equal(array(paths[0], frame)[0], MASK.astype(np.uint16) * 257)
    np.testing.assert_array_equal(array(paths[1], frame)[0], GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(array(paths[2], frame)[0], DARK)


def test_masks_are_known_by_their_pixels_and_become_binary(tmp_path: Path) -> None:
    mask, grey = save(tmp_path / "mask.png", MASK), save(tmp_path / "grey.png", GREY)
    blue = save(tmp_path / "blue.png", np.stack([0 * MASK, 0 * MASK, MASK], 2))
    assert [is_mask(path) for path in (mask, grey, blue)] == [True, False, False]
    assert is_mask(save(tmp_path / "one.png", Image.fromarray(MASK).convert("1")))
    assert not is_mask(save(tmp_path / "f.tiff", MASK.astype(np.float32)))
    frame = Frame((6, 5), grey=True, depth=1)
    np.testing.assert_array_equal(array(mask, frame)[0], MASK // 255)
    assert set(np.unique(array(mask, Frame((11, 7), True, 1, "stretch")))) <= {0, 1}
    with pytest.raises(BadPicture, match="has grey levels, and the others are black and white"):
        pixels(grey, frame)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_a_picture_is_turned_as_its_exif_data_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    corner = np.zeros((16, 24), np.uint8)
    corner[:8, :8] = 255  # of the picture as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"picture.{suffix}", corner, exif=exif)
    facts = look(path)
    assert facts.size == ((16, 24) if orientation < 5 else (24, 16))
    found = array(path, frame_of([facts], facts.size))[0]
    ends = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    top, left = ends[orientation]
    expected = np.zeros(facts.size, np.uint8)
    expected[slice(0, 8) if top == 0 else slice(-8, None), slice(0, 8) if left == 0 else slice(-8, None)] = 255
    assert np.abs(found.astype(int) - expected).max() < 40  # JPEG is not exact
    sixteen = save(tmp_path / "deep.png", corner.astype(np.uint16) * 257, exif=exif)
    np.testing.assert_array_equal(array(sixteen, frame_of([look(sixteen)], facts.size))[0], expected.astype(int) * 257)


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    clear = np.dstack([COLOUR, np.full((6, 5), 255, np.uint8)])
    clear[0, :, 3] = 0
    found = array(save(tmp_path / "clear.png", clear), Frame((6, 5), grey=False))
    assert (found[:, 0] == 255).all()
    np.testing.assert_array_equal(found[:, 1:], np.moveaxis(COLOUR, 2, 0)[:, 1:])


@pytest.mark.parametrize("depth", [1, 8, 16, 32])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_wide_picture_is_cropped_padded_or_stretched(tmp_path: Path, fit: str, depth: int) -> None:
    """Its thirds are black, white and black, so what is left of them shows what was done."""
    top = {1: 255, 8: 255, 16: 65535, 32: 2.5}[depth]
    wide = np.zeros((20, 60), {1: np.uint8, 8: np.uint8, 16: np.uint16, 32: np.float32}[depth])
    wide[:, 20:40] = top
    path = save(tmp_path / "wide.tiff", wide)
    values = array(path, Frame((12, 12), True, depth, fit))[0]
    white = np.zeros((12, 12), bool)
    if fit == "crop":
        white[:] = True
    elif fit == "pad":
        white[4:8, 4:8] = True
    else:
        white[:, 4:8] = True
    level = 1 if depth == 1 else top
    np.testing.assert_allclose(values, np.where(white, level, 0), atol=0.15 * level)
    assert ("12x12" in Frame((12, 12), True, depth, fit).words) is True


def test_resized_levels_stay_within_theirs(tmp_path: Path) -> None:
    """The filter goes beyond black and white at an edge, and 16 bits do not wrap around."""
    step = np.zeros((40, 40), np.uint16)
    step[:, 20:] = 65535
    values = array(save(tmp_path / "step.png", step), Frame((13, 13), True, 16, "stretch"))[0]
    assert values[:, :6].max() < 3000
    assert values[:, 7:].min() > 62000


def test_icons_and_avif_are_pictures(tmp_path: Path) -> None:
    smooth = Image.fromarray(COLOUR).resize((16, 16), Image.Resampling.BICUBIC, (1, 1, 3, 3))
    icon = save(tmp_path / "icon.ico", smooth, sizes=[(16, 16)])
    assert look(icon) == Facts((16, 16), False, 8)
    frame = Frame((16, 16), grey=False)
    np.testing.assert_array_equal(array(icon, frame), np.moveaxis(np.asarray(smooth), 2, 0))
    avif = save(tmp_path / "picture.avif", smooth, quality=100)
    np.testing.assert_allclose(array(avif, frame).astype(int), array(icon, frame), atol=30)
    assert {".ico", ".avif"} <= set(SUFFIXES)


def written(image: Image.Image, kind: str, **settings) -> bytes:
    file = BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


NOISE = Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 1, 0, 0, 0, 0)) + chunk(b"IDAT", b"")
BAD = {
    "is an empty file": b"",
    "is no picture of a kind that is read": b"hello, this is a text",
    "is a JPEG picture whose end is missing": written(NOISE, "JPEG")[:800],
    "is a PNG picture whose end is missing": written(NOISE, "PNG")[:800],
    "is 9000x9000, more than 50 million pixels": BOMB,
    "is a damaged PNG picture": written(NOISE, "PNG").replace(b"IDAT", b"IDAT" + b"\0" * 6, 1),
}


@pytest.mark.parametrize("why", BAD)
def test_a_damaged_file_is_explained_in_plain_words(tmp_path: Path, why: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(BAD[why])
    with pytest.raises(BadPicture, match=why) as caught:
        pixels(path, Frame((40, 40), False))
    assert "(" not in str(caught.value).replace("(PNG, JPEG, BMP, GIF, TIFF, WebP, AVIF, ICO)", "")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "ICO"])
def test_a_picture_cut_off_anywhere_or_with_wrong_bytes_is_whole_or_bad(tmp_path: Path, kind: str) -> None:
    """Nothing but BadPicture, whatever the decoders raise."""
    settings = {"MPO": {"save_all": True, "append_images": [NOISE]}, "ICO": {"sizes": [(40, 40)]}}.get(kind, {})
    whole, path, rng = written(NOISE, kind, **settings), tmp_path / "picture", np.random.default_rng(1)
    bad = 0
    for number in range(60):
        content = bytearray(whole)
        if number % 2:
            content = content[: rng.integers(1, len(content))]
        else:
            for place in rng.integers(0, min(len(content), 400), 8):
                content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert pixels(path, frame_of([look(path)], (40, 40))).shape[1:] == (40, 40)
        except BadPicture:
            bad += 1
    assert bad > 5


def test_what_does_not_fit_the_others_is_refused(tmp_path: Path) -> None:
    grey, real = save(tmp_path / "grey.png", GREY), save(tmp_path / "real.tiff", GREY / np.float32(255))
    for facts in ([look(grey), look(real)], [look(real), look(save(tmp_path / "dark.png", DARK))]):
        with pytest.raises(BadPicture, match="has values of floating point, and others have integers"):
            frame_of(facts, (6, 5))
    with pytest.raises(BadPicture, match="which have no colours"):
        frame_of([look(real)], (6, 5), colour="colour")
    with pytest.raises(BadPicture, match="has values of floating point, and the others of integers"):
        pixels(real, WHOLE)
    with pytest.raises(BadPicture, match="has values of integers, and the others of floating point"):
        pixels(grey, Frame((6, 5), True, 32))
    with pytest.raises(BadPicture, match="not finite"):
        pixels(save(tmp_path / "nan.tiff", np.full((6, 5), np.nan, np.float32)), Frame((6, 5), True, 32))
    deep = save(tmp_path / "deep.tiff", DARK.astype(np.int32) * 1000)
    with pytest.raises(BadPicture, match=r"has values from \d+ to \d+, and pictures of integers are read up to 65535"):
        pixels(deep, frame_of([look(deep)], (6, 5)))
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(BadPicture, match="is neither a file"):
        look(tmp_path / "fifo.png")
