"""A folder of pictures: classes, modes, sizes, bad files, and pictures too large to be decoded."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reading import load, refused

from naming import naming
from vaekit.data import Binary, DataSpec, Levels, Limit, Schema, StreamedRows, prepare
from vaekit.data.open import open_table
from vaekit.errors import SpecError

GREY = np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray, **settings) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **settings)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    for k, array in enumerate(GREY):
        save(tmp_path / "set" / f"{k:02}.png", array)
    return tmp_path / "set"


def bomb(path: Path, height: int, width: int) -> None:
    """A PNG of one bit per pixel, all zeros: small on disk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_files_in_the_order_of_names(folder):
    (folder / ".hidden").write_text("not a picture")
    source = load(folder)
    np.testing.assert_array_equal(source.whole(), GREY[:, None])
    assert source.labels is None
    assert source.kind == "image"
    data = prepare(DataSpec(source=str(folder)), Limit())
    assert data.schema.stored == Levels(256)
    assert data.schema.shape == (1, 6, 5)


def test_subfolders_are_classes(tmp_path):
    for k, array in enumerate(GREY):
        save(tmp_path / "set" / ("cats" if k % 3 else "ants") / f"{k:02}.PNG", array)
    source = load(tmp_path / "set")
    assert source.classes == ("ants", "cats")
    assert source.labels is not None
    assert source.labels.tolist() == [0] * 4 + [1] * 8
    np.testing.assert_array_equal(source.whole()[:4, 0], GREY[::3])
    (tmp_path / "set" / "dogs").mkdir()
    refused(tmp_path / "set", "dogs is a class without a picture")
    (tmp_path / "set" / "dogs" / "deeper").mkdir()
    refused(tmp_path / "set", "holds the folder 'deeper'")
    save(tmp_path / "set" / "z.png", GREY[0])
    refused(tmp_path / "set", "both subfolders", "'z.png'")


@pytest.mark.parametrize("kind", ["bmp", "gif", "tif", "webp", "png"])
def test_lossless_kinds(tmp_path, kind):
    save(tmp_path / "set" / f"a.{kind}", GREY[0], **({"lossless": True} if kind == "webp" else {}))
    save(tmp_path / "set" / f"b.{kind}", GREY[1], **({"lossless": True} if kind == "webp" else {}))
    values = load(tmp_path / "set").whole()
    assert values.shape[1] == (3 if kind == "webp" else 1)
    np.testing.assert_array_equal(values[0], np.broadcast_to(GREY[0], values[0].shape))


def test_one_coloured_picture_makes_all_coloured(folder):
    save(folder / "99.png", COLOUR[0])
    values = load(folder).whole()
    assert values.shape == (13, 3, 6, 5)
    np.testing.assert_array_equal(values[12], np.moveaxis(COLOUR[0], 2, 0))
    np.testing.assert_array_equal(values[0], np.broadcast_to(GREY[0], (3, 6, 5)))


def test_modes(tmp_path):
    folder = tmp_path / "set"
    save(folder / "a.png", GREY[0].astype(np.uint16) * 257)
    Image.fromarray(GREY[1] > 99).save(folder / "b.png")
    palette = Image.fromarray(GREY[2]).convert("P")
    palette.save(folder / "c.png")
    alpha = np.stack([GREY[3], np.where(GREY[3] > 128, 255, 0).astype(np.uint8)], -1)
    Image.fromarray(alpha).save(folder / "d.png")
    sixteen = load(folder).whole()[:, 0]  # the most bits that one of them has
    assert sixteen.dtype == np.uint16
    values = sixteen // 257
    np.testing.assert_array_equal(values * 257, sixteen)
    np.testing.assert_array_equal(values[0], GREY[0])
    np.testing.assert_array_equal(values[1], (GREY[1] > 99) * 255)
    np.testing.assert_array_equal(values[2], GREY[2])
    np.testing.assert_array_equal(values[3], np.where(GREY[3] > 128, GREY[3], 255))
    see_through = np.concatenate([COLOUR[0], np.full((6, 5, 1), 0, np.uint8)], -1)
    Image.fromarray(see_through).save(folder / "e.png")
    Image.fromarray(COLOUR[1]).convert("CMYK").save(folder / "f.tif")
    both = load(folder).whole()
    assert (both[4] == 255).all()
    assert np.abs(both[5].astype(int) - np.moveaxis(COLOUR[1], 2, 0)).max() <= 2


def test_a_picture_of_more_bits_than_the_others_is_said(folder):
    save(folder / "deep.png", GREY[0].astype(np.uint16) * 257)
    data = prepare(DataSpec(source=str(folder)), Limit())
    assert data.schema.stored == Levels(1 << 16)
    assert "1 of 13 pictures has 16 bits, over whose 65,536 levels the others are spread" in data.schema.protocol


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "set" / "a.png", GREY[0], exif=exif)
    save(tmp_path / "set" / "b.png", np.rot90(GREY[1], -1))
    np.testing.assert_array_equal(load(tmp_path / "set").whole()[0, 0], np.rot90(GREY[0], -1))


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(array) for array in GREY[:3]]
    (tmp_path / "set").mkdir()
    frames[0].save(tmp_path / "set" / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load(tmp_path / "set").whole()[0, 0], GREY[0])


def test_sizes_must_agree_or_be_given(folder):
    wide = np.zeros((12, 30), np.uint8)
    wide[:, 10:20] = 200
    save(folder / "99.png", wide)
    refused(folder, "99.png is 12x30", "00.png is 6x5", "DataSpec.image_size=[6, 5]")
    values = load(folder, image_size=(6, 5)).whole()
    np.testing.assert_array_equal(values[:12, 0], GREY)
    assert (values[12] == 200).all()  # the margins are cut off, so that nothing is stretched
    shrunk = load(folder, image_size=(3, 3)).whole()
    assert shrunk.shape == (13, 1, 3, 3)
    assert abs(float(shrunk[:12].mean()) - GREY.mean()) < 8


@pytest.mark.parametrize(
    ("fit", "words", "corner"), [("crop", "cut", 200), ("pad", "the rest black", 0), ("stretch", "stretched", 0)]
)
def test_how_another_size_is_made(folder, fit, words, corner):
    wide = np.zeros((6, 30), np.uint8)
    wide[:, 10:20] = 200
    save(folder / "99.png", wide)
    data = prepare(DataSpec(source=str(folder), image_size=(6, 5), image_fit=fit), Limit())
    assert "1 of 13 pictures" in data.schema.protocol
    assert words in data.schema.protocol
    assert load(folder, image_size=(6, 5), image_fit=fit).whole()[12, 0, 0, 0] == corner


def test_grey_or_colour_by_setting(folder):
    colour = load(folder, image_mode="colour")
    np.testing.assert_array_equal(colour.whole(), np.broadcast_to(GREY[:, None], (12, 3, 6, 5)))
    assert colour.note == "pictures read in colour"
    save(folder / "99.png", COLOUR[0])
    grey = load(folder, image_mode="grey")
    assert grey.shape == (1, 6, 5)
    np.testing.assert_array_equal(grey.whole()[:12, 0], GREY)
    np.testing.assert_array_equal(grey.whole()[12, 0], np.asarray(Image.fromarray(COLOUR[0]).convert("L")))


def test_sixteen_bits_keep_their_levels(tmp_path):
    levels = np.random.default_rng(3).integers(0, 1 << 16, (8, 6, 5), dtype=np.uint16)
    for k, array in enumerate(levels):
        save(tmp_path / "set" / f"{k}.png", array)
    np.testing.assert_array_equal(load(tmp_path / "set").whole()[:, 0], levels)
    assert prepare(DataSpec(source=str(tmp_path / "set")), Limit()).schema.stored == Levels(1 << 16)


def test_masks_are_binary(tmp_path):
    masks = GREY > 128
    for k, mask in enumerate(masks):
        Image.fromarray(mask).save(save(tmp_path / "bits" / f"{k:02}.png", GREY[k]))
        save(tmp_path / "bytes" / f"{k:02}.png", mask.astype(np.uint8) * 255)
    np.testing.assert_array_equal(load(tmp_path / "bits").whole()[:, 0], masks)
    assert prepare(DataSpec(source=str(tmp_path / "bits")), Limit()).schema.stored == Binary()
    assert load(tmp_path / "bytes").whole().max() == 255
    declared = prepare(DataSpec(source=str(tmp_path / "bytes"), support="binary"), Limit())
    assert declared.schema.stored == Binary()
    np.testing.assert_array_equal(load(tmp_path / "bytes", support="binary").whole()[:, 0], masks)
    save(tmp_path / "bytes" / "99.png", GREY[0])
    refused(tmp_path / "bytes", "99.png", check=naming("DataSpec.support", "binary"), support="binary")


def test_floats_and_integers_are_not_mixed(folder):
    Image.fromarray(GREY[0].astype(np.float32)).save(folder / "99.tif")
    refused(folder, "floating point")


def test_settings_for_pictures_and_for_tables(folder):
    with pytest.raises(SpecError, check=naming("DataSpec.image_size", (6, 5))):
        open_table(DataSpec(source="digits", image_size=(6, 5)), Limit())
    with pytest.raises(SpecError, check=naming("DataSpec.bad_files", "skip")):
        open_table(DataSpec(source="digits", bad_files="skip"), Limit())
    refused(folder, error=SpecError, check=naming("DataSpec.drop", ["a"]), drop=("a",))
    refused(folder, check=naming("DataSpec.label", "a"), label="a")


BAD = {
    "empty.png": b"",
    "text.png": b"hello, world, this is not a picture",
    "notes.txt": b"taken in May",
    "truncated.png": 100,
    "truncated.jpg": 400,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("stream", ["auto", "always"])
def test_bad_files_are_refused_or_skipped_and_counted(folder, name, stream):
    content = BAD[name]
    if isinstance(content, int):
        noise = np.random.default_rng(2).integers(0, 256, (6, 5), dtype=np.uint8)
        content = save(folder / name, noise).read_bytes()[:content] if name.endswith("jpg") else b""
        whole = (folder / "00.png").read_bytes()
        content = content or whole[: len(whole) - 25]
        content = content[:-20] if name.endswith("jpg") else content
    (folder / name).write_bytes(content)
    refused(folder, name, "DataSpec.bad_files=skip", stream=stream)
    data = prepare(DataSpec(source=str(folder), bad_files="skip", stream=stream), Limit())
    assert isinstance(data.train, StreamedRows) == (stream == "always")
    assert len(data.train) + len(data.valid) + len(data.test) == 12
    assert "1 of 13 files skipped" in data.schema.protocol
    assert name in data.schema.protocol


def test_only_bad_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    refused(tmp_path, "of its 1 file, none is a whole picture", bad_files="skip")


@pytest.mark.parametrize(("height", "width"), [(6000, 10_000), (10_000, 10_000), (20_000, 20_000)])
def test_a_bomb_is_refused_before_it_is_decoded(folder, height, width):
    bomb(folder / "99.png", height, width)
    assert (folder / "99.png").stat().st_size < 60_000
    started = time.perf_counter()
    refused(folder, "99.png", "more than 50 million pixels")
    refused(folder, "99.png", "more than 50 million pixels", image_size=(6, 5))
    skipped = prepare(DataSpec(source=str(folder), bad_files="skip"), Limit())
    assert "1 of 13 files skipped" in skipped.schema.protocol
    assert time.perf_counter() - started < 2


def test_names_in_no_encoding(folder):
    for k, name in enumerate(("caf\udce9", "tea")):
        for row in range(6):
            save(folder / name / f"{row}.png", GREY[6 * k + row])
    for file in folder.glob("*.png"):
        file.unlink()
    (folder / "tea" / "br\udce9.png").write_bytes(b"")
    data = prepare(DataSpec(source=str(folder), bad_files="skip"), Limit())
    assert data.schema.classes == ("caf\\udce9", "tea")
    assert "(br\\udce9.png)" in data.schema.protocol
    assert Schema.from_json(data.schema.to_json()) == data.schema
