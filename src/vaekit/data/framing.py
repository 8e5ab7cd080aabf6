"""Pictures of any mode and size as arrays of one shape and type.

look(path) -> Facts of each file --frame_of--> Frame --pixels(path, frame)--> (channels, height, width)
"""

import errno
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from vaekit.data.bounds import why_not

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ico")
MOST_PIXELS = 50_000_000

Fit = Literal["crop", "pad", "stretch"]
Colour = Literal["auto", "grey", "colour"]
Depth = Literal[1, 8, 16, 32]  # bits of a value; 32 are a float

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "ICO")
_KINDS = "PNG, JPEG, BMP, GIF, TIFF, WebP, AVIF, ICO"
_SHORT = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # 16 bits, which Pillow also gives as 32
_GREY = ("1", "L", "LA", "La", "F", *_SHORT)
_COLOUR = ("RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
_TYPES = {1: np.uint8, 8: np.uint8, 16: np.uint16, 32: np.float32}
_BYTES_PER_PIXEL = 24  # that decoding takes at most: several copies, of four bytes each
_BYTES_TAKEN = 32_000_000  # whatever the size
_ORIENTATION = 0x0112  # of EXIF; from 5 on, width and height change places


class BadPicture(Exception):
    """A file that is not a whole picture, or none that fits the others, and why."""


@dataclass(frozen=True)
class Facts:
    """What a picture's header says of it.

    Attributes:
        size: Height and width, as it is meant to be seen.
        grey: Whether it has no colours.
        depth: Bits of a value: 1 of black and white, 8, 16, or 32 of floating point.
    """

    size: tuple[int, int]
    grey: bool
    depth: Depth


@dataclass(frozen=True)
class Frame:
    """The one shape and type that pictures get.

    Attributes:
        size: Height and width.
        grey: One channel, else red, green and blue.
        depth: Bits of a value: 1 gives 0 and 1, 8 and 16 give 256 and 65,536 levels, and 32 floats as they are.
        fit: How a picture of another size gets this one. "crop" cuts the largest part of its aspect from the centre and
            resizes that; "pad" resizes the whole into it and leaves the rest black; "stretch" changes the aspect.
    """

    size: tuple[int, int]
    grey: bool
    depth: Depth = 8
    fit: Fit = "crop"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (1 if self.grey else 3, *self.size)

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return np.dtype(_TYPES[self.depth])

    @property
    def words(self) -> str:
        """What happens to a picture of another size, for the protocol."""
        size = f"{self.size[0]}x{self.size[1]}"
        return {
            "crop": f"cut from the centre to the aspect of {size} and resized to it",
            "pad": f"resized into {size}, the rest black",
            "stretch": f"stretched to {size}",
        }[self.fit]


def frame_of(facts: Iterable[Facts], size: tuple[int, int], fit: Fit = "crop", colour: Colour = "auto") -> Frame:
    """The frame for pictures with these facts.

    It is grey where all of them are, unless `colour` says otherwise. Colours have 8 bits; grey pictures the most that
    one of them has, and so lose nothing.

    Args:
        facts: Of each picture.
        size: Height and width of the frame.
        fit: See `Frame`.
        colour: "grey" and "colour" decide for all pictures; "auto" looks.

    Raises:
        BadPicture: Some have values of floating point and some integers.
    """
    found = set(facts)
    depths: set[Depth] = {one.depth for one in found}
    if 32 in depths and len(depths) > 1:
        raise BadPicture("has values of floating point, and others have integers: save all in one way")
    grey = colour == "grey" or (colour == "auto" and all(one.grey for one in found))
    if not grey and 32 in depths:
        raise BadPicture("has values of floating point, which have no colours: leave the colour mode out, or say grey")
    return Frame(size, grey, max(depths) if grey and depths else 8, fit)


def look(path: Path) -> Facts:
    """The facts of a picture, from its header alone.

    Raises:
        BadPicture: It has none, or says that the picture has more than 50 million pixels.
    """
    with _opened(path) as image:
        height, width = image.height, image.width
        # Of a TIFF, Pillow gives the size as it is meant to be seen.
        turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) >= 5
        return Facts((width, height) if turned else (height, width), _is_grey(image), _depth(image))


def is_mask(path: Path) -> bool:
    """Whether a picture is grey, and each pixel black or white: what a depth of 1 loses nothing of.

    The picture is decoded; over the files of a folder, `all` stops at the first that is none.

    Raises:
        BadPicture: The file is truncated or damaged.
    """
    with _opened(path) as image:
        return image.mode != "F" and _is_grey(image) and _black_and_white(np.asarray(_eight_bits(image).convert("L")))


def pixels(path: Path, frame: Frame) -> np.ndarray:
    """A picture as a frame has it, (channels, height, width); of an animation, its first.

    It is turned as its EXIF data says, and what is transparent is put on white. In a frame of 8 bits, 16 bits are
    rounded to 8; in one of 16, 8 bits are spread over all levels.

    Raises:
        BadPicture: The file is truncated or damaged, or its values do not fit the frame's.
    """
    with _opened(path) as image:
        values = np.asarray(_framed(_in_depth(ImageOps.exif_transpose(image), frame), frame))
    if frame.depth == 16:
        values = np.rint(values).clip(0, 65535)  # resizing goes beyond
    values = values.astype(frame.dtype)
    return values[None] if frame.grey else np.ascontiguousarray(np.moveaxis(values, 2, 0))


def _in_depth(image: Image.Image, frame: Frame) -> Image.Image:
    """The picture in the frame's colours, its values as the frame counts them; 16 bits are floats for now."""
    if (image.mode == "F") != (frame.depth == 32):
        of_image, others = ("floating point", "integers") if image.mode == "F" else ("integers", "floating point")
        raise BadPicture(f"has values of {of_image}, and the others of {others}: save all in one way")
    if frame.depth == 32:
        if not np.isfinite(np.asarray(image)).all():
            raise BadPicture("has values that are not finite")
        return image
    if not frame.grey:
        return _eight_bits(image).convert("RGB")
    if frame.depth == 16 and image.mode in _SHORT:
        return Image.fromarray(_short(image).astype(np.float32))
    grey = _eight_bits(image).convert("L")
    if frame.depth == 8:
        return grey
    values = np.asarray(grey)
    if frame.depth == 16:
        return Image.fromarray(values.astype(np.float32) * 257)
    if not _black_and_white(values):
        raise BadPicture("has grey levels, and the others are black and white")
    return Image.fromarray((values > 0).astype(np.uint8))


def _framed(image: Image.Image, frame: Frame) -> Image.Image:
    """The picture in the frame's size."""
    height, width = frame.size
    if (image.height, image.width) == frame.size:
        return image
    # Between black and white there is nothing.
    how = Image.Resampling.NEAREST if frame.depth == 1 else Image.Resampling.LANCZOS
    if frame.fit == "crop":
        part = min(image.height / height, image.width / width)
        across, down = max(1, round(width * part)), max(1, round(height * part))
        left, top = (image.width - across) // 2, (image.height - down) // 2
        # Cut first: given a box, the filter would still look beyond its edges.
        image = image.crop((left, top, left + across, top + down))
    if frame.fit != "pad":
        return image.resize((width, height), how)
    part = max(image.height / height, image.width / width)
    across, down = max(1, round(image.width / part)), max(1, round(image.height / part))
    padded = Image.new(image.mode, (width, height))
    padded.paste(image.resize((across, down), how), ((width - across) // 2, (height - down) // 2))
    return padded


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture before it is decoded: Pillow reads the header, and the pixels only when they are used.

    What the block raises over it is BadPicture, in plain words.
    """
    if why := why_not(path):
        raise BadPicture(why)
    if not path.stat().st_size:
        raise BadPicture("is an empty file")
    kind, count = "", 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Given a path, Pillow 13 maps an uncompressed TIFF into memory, and garbles one that is to be turned.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
                kind, count = image.format or "", image.width * image.height
                if count > MOST_PIXELS:
                    raise BadPicture(
                        f"is {image.height}x{image.width}, more than {MOST_PIXELS // 1_000_000} million pixels"
                    )
                if image.mode not in (*_GREY, *_COLOUR, "P", "PA"):
                    raise BadPicture(f"has pixels of type {image.mode}, which are not read: save it as 8-bit PNG")
                yield image
        return
    # The decoders read an unknown file: what a broken one raises cannot be listed.
    except Exception as error:
        caught = error.with_traceback(None)  # which would keep alive what was decoded so far
    raise _verdict(caught, kind, count)


def _verdict(error: Exception, kind: str, count: int) -> Exception:
    """What to raise for what was raised over a file of some format, by a decoder or on opening it.

    Raises:
        MemoryError: What a whole picture of so many pixels takes cannot be had, so nothing is known of the file.
    """
    if isinstance(error, BadPicture):
        return error
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return BadPicture(f"has more than {MOST_PIXELS // 1_000_000} million pixels")
    if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ELOOP):
        return error
    # Decoders call a file damaged where they are refused memory, and a damaged file may claim any amount of it.
    bytearray(_BYTES_TAKEN + _BYTES_PER_PIXEL * count)
    if not kind:
        return BadPicture(f"is no picture of a kind that is read ({_KINDS}), or its beginning is damaged")
    name = "JPEG" if kind == "MPO" else kind  # of several JPEG pictures in one file, as phones write them
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return BadPicture(f"is a {name} picture whose end is missing: copy it anew")
    return BadPicture(f"is a damaged {name} picture, which cannot be decoded: copy it anew")


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [0, 0, 1]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY


def _depth(image: Image.Image) -> Depth:
    if image.mode in _SHORT:
        return 16
    return 1 if image.mode == "1" else 32 if image.mode == "F" else 8


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pixels of 8 bits, without transparency."""
    if image.mode in _SHORT:
        return Image.fromarray(np.round(_short(image) / 257).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA"))
    return image.convert("RGB") if image.mode == "P" else image


def _short(image: Image.Image) -> np.ndarray:
    """The levels of a picture of 16 bits.

    Raises:
        BadPicture: Pillow gave it as 32 bits, and it uses them.
    """
    values = np.asarray(image).astype(np.int64)
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 65535:
        raise BadPicture(
            f"has values from {lowest} to {highest}, and pictures of integers are read up to 65535: save it with 16 "
            "bits, or all pictures as an array in a .npy file"
        )
    return values


def _black_and_white(levels: np.ndarray) -> bool:
    return bool(((levels == 0) | (levels == 255)).all())
