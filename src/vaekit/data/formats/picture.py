"""One picture: what its header says, and its pixels as grey levels or as red, green and blue."""

import errno
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vaekit.data.bounds import why_not

MOST_PIXELS = 50_000_000

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "MPO")
_SHORT = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # 16 bits, which Pillow also gives as 32
_GREY = ("1", "L", "LA", *_SHORT)
_COLOUR = ("RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
_BYTES_PER_PIXEL = 24  # that decoding takes at most: several copies, of four bytes each
_BYTES_TAKEN = 32_000_000  # whatever the size
_ORIENTATION = 0x0112  # of EXIF; from 5 on, width and height change places


class BadPicture(Exception):
    """A file that is not a whole picture, and why."""


def look(path: Path) -> tuple[tuple[int, int], bool]:
    """Height and width of a picture as it is meant to be seen, and whether it is grey; from its header alone.

    Raises:
        BadPicture: it has none, or says that the picture has more than 50 million pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with _open(path) as image:
                rotated = image.getexif().get(_ORIENTATION, 1) >= 5
                height, width = (image.width, image.height) if rotated else (image.height, image.width)
                return (height, width), _is_grey(image)
        # The decoders read an unknown file: what a broken one raises cannot be listed.
        except Exception as error:
            raise _verdict(error, 0) from None


def pixels(path: Path, grey: bool, size: tuple[int, int]) -> np.ndarray:
    """A picture as uint8 (channels, height, width): one channel if grey, else three; of a GIF, its first frame.

    It is turned as its EXIF data says, what is transparent is put on white, and 16 bits become 8. Where it is not of
    `size` (height, width), the largest part of that aspect is cut from its centre and resized.

    Raises:
        BadPicture: the file is truncated or damaged.
    """
    shown = _decode(path, grey)
    height, width = size
    if (shown.height, shown.width) != size:
        part = min(shown.height / height, shown.width / width)
        across, down = max(1, round(width * part)), max(1, round(height * part))
        left, top = (shown.width - across) // 2, (shown.height - down) // 2
        # Cut first: given a box, the filter would still look beyond its edges.
        shown = shown.crop((left, top, left + across, top + down))
        shown = shown.resize((width, height), Image.Resampling.LANCZOS)
    values = np.asarray(shown, np.uint8)
    return values[None] if grey else np.ascontiguousarray(np.moveaxis(values, 2, 0))


def _decode(path: Path, grey: bool) -> Image.Image:
    """A whole picture in grey or in colour."""
    pixels = 0
    try:
        with _open(path) as image:
            pixels = image.width * image.height
            return _flatten(ImageOps.exif_transpose(image)).convert("L" if grey else "RGB")
    except Exception as error:
        caught = error.with_traceback(None)  # which would keep alive what was decoded so far
    raise _verdict(caught, pixels)


def _open(path: Path) -> Image.Image:
    """The picture before it is decoded: Pillow reads the header, and the pixels only when they are used."""
    if why := why_not(path):
        raise BadPicture(why)
    try:
        image = Image.open(path, formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"has more than {MOST_PIXELS // 1_000_000} million pixels") from None
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.height}x{image.width}"
        image.close()
        raise BadPicture(f"is {size}, more than {MOST_PIXELS // 1_000_000} million pixels")
    if image.mode not in (*_GREY, *_COLOUR, "P", "PA"):
        mode = image.mode
        image.close()
        raise BadPicture(f"has pixels of type {mode}, which are not read: save it as 8-bit PNG")
    return image


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [0, 0, 1]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY


def _flatten(image: Image.Image) -> Image.Image:
    """Pixels of 8 bits, without transparency."""
    if image.mode in _SHORT:
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(np.round(values / 257), 0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB") if image.mode == "P" else image


def _verdict(error: Exception, pixels: int) -> Exception:
    """What to raise for what was raised over a file, by a decoder or on opening it.

    Raises:
        MemoryError: what a whole picture of so many pixels takes cannot be had, so nothing is known of the file.
    """
    if isinstance(error, BadPicture):
        return error
    if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ELOOP):
        return error
    # Decoders call a file damaged where they are refused memory, and a damaged file may claim any amount of it.
    bytearray(_BYTES_TAKEN + _BYTES_PER_PIXEL * pixels)
    if isinstance(error, Image.UnidentifiedImageError):
        return BadPicture("is not a picture of a kind that is read")
    text = str(error).strip().splitlines()
    return BadPicture(f"is truncated or damaged ({text[0][:120].rstrip('.') if text else type(error).__name__})")
