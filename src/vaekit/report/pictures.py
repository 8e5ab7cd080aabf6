"""Pictures of rows: pixel grids of images, panels of columns for tables. Fast enough for a training loop."""

import io
import math
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vaekit.data import Levels, Schema, Support
from vaekit.errors import SpecError
from vaekit.evaluation import evaluating
from vaekit.models import Code, Model
from vaekit.models.distributions.codes import centre, centre_in_words

GUTTER = 144  # a grey that neither a black nor a white edge melts into
MOST_NUMBERS = 10_000_000  # of all rows in a picture
READABLE = 48  # pixels of a tile's longer side, at least
_FRAMES, _FRAME = 6, 230  # pictures of a film strip at most, and pixels across one
_MOST_PIXELS = 30_000_000  # of a picture that a run folder has
_COLOURED = (1, 3, 4)  # channels of a picture: grey, RGB, RGBA
_SPREAD = 3.0  # standard deviations on either side of the mean that the grey scale of standardised images covers


def to_unit(x: np.ndarray, schema: Schema) -> np.ndarray:
    """x (..., *shape), as the model sees it, as brightness in [0, 1] for display.

    Binary values and the unit interval stay as they are, levels are divided by the highest one. Real values and counts
    have no range of their own: standardised ones show the mean ± 3 standard deviations, others the range of this x.
    `brightness` says it in words.
    """
    support = _displayed(schema)
    if support is not None:
        unit = np.asarray(schema.to_stored(x), dtype=np.float64) / _top(support)
    elif schema.scale is not None:
        unit = (np.asarray(x, dtype=np.float64) + _SPREAD) / (2 * _SPREAD)
    else:
        low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
        unit = (x - low) / (high - low) if high > low else np.full(x.shape, 0.5)
    return np.nan_to_num(unit, nan=0.5).clip(0, 1)


def brightness(schema: Schema) -> str:
    """What black and white stand for in `to_unit`, in words."""
    support = _displayed(schema)
    if support is not None:
        return f"black is 0, white is {_top(support)}"
    if schema.scale is not None:
        return "black and white are three standard deviations below and above the mean"
    return "black and white are the lowest and the highest value shown"


def image_grid(images: np.ndarray, columns: int | None = None, pad: int = 3, scale: int | None = None) -> Image.Image:
    """Images side by side, row by row, each pixel enlarged to a square.

    Args:
        images: (n, channels, height, width) in [0, 1], with 1 (grey), 3 (RGB) or 4 (RGBA) channels; others are grey
            pictures side by side.
        columns: Images in a row; by default about as many as there are rows.
        pad: Width of the gutters in pixels.
        scale: How many times a pixel is enlarged; by default until an image is at least 48 pixels wide or high.
    """
    columns = columns or max(1, math.ceil(math.sqrt(len(images))))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    return _paste(rows, [pad] * (len(rows) + 1), columns, pad, scale)


def pairs_grid(
    originals: np.ndarray, reconstructions: np.ndarray, columns: int = 8, pad: int = 3, scale: int | None = None
) -> Image.Image:
    """Rows of originals, each with its reconstructions directly below.

    Args:
        originals: (n, channels, height, width) in [0, 1].
        reconstructions: The same shape.
        columns: Images in a row.
        pad: Width of the gutters in pixels.
        scale: How many times a pixel is enlarged; see `image_grid`.
    """
    if originals.shape != reconstructions.shape:
        raise SpecError(
            f"{originals.shape} originals and {reconstructions.shape} reconstructions make no pairs",
            field="reconstructions",
        )
    columns = max(1, min(columns, len(originals)))
    rows, gaps = [], [pad]
    for start in range(0, len(originals), columns):
        rows += [originals[start : start + columns], reconstructions[start : start + columns]]
        gaps += [pad, 5 * pad]
    return _paste(rows, [*gaps[:-1], pad], columns, pad, scale)


def reconstruction_picture(
    model: Model, schema: Schema, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
) -> Image.Image:
    """Originals over their reconstructions, with a caption; for a table, one against the other by column.

    Args:
        model: A VAE, or anything with its `encode` and `decode`.
        schema: Of the data.
        x: (n, *shape), as the model sees it.
        context: (n, width), if the model takes one.
        mask: (n, *shape), True where a cell is observed; None where all are.
    """
    originals, means = x.cpu().numpy(), reconstruct(model, x, context, mask)
    text = f"the mean of p(x|z) at {reconstructed_at(model, x, context, mask)}"
    if schema.kind == "image":
        both = to_unit(np.concatenate([originals, means]), schema)
        return captioned(pairs_grid(both[: len(x)], both[len(x) :]), f"originals, and below each {text}")
    shown = observed(schema.to_stored(originals), None if mask is None else mask.cpu().numpy())
    if schema.kind == "sequence":
        from vaekit.report.lines import reconstructed_lines

        return captioned(reconstructed_lines(shown, schema.to_stored(means)), f"rows, and dashed {text}")
    from vaekit.report.columns import pairs_by_column  # brings matplotlib, which images do not need

    picture = pairs_by_column(
        flat(shown), flat(schema.to_stored(means)), column_names(schema), column_categories(schema)
    )
    return captioned(picture, f"each value against its reconstruction, {text}")


def sample_picture(
    model: Model, schema: Schema, n: int = 64, generator: torch.Generator | None = None, mean: bool = True
) -> Image.Image:
    """Rows from the prior, with a caption; for a table, histograms by column.

    Args:
        model: A VAE, or anything with its `generate`.
        schema: Of the data.
        n: How many rows.
        generator: Of the noise.
        mean: Whether to show the mean of p(x|z) in place of a draw.
    """
    what = f"{'means' if mean else 'draws'} of p(x|z), z from the prior{context_in_words(schema)}"
    context = example_context(schema, n, None if generator is None else generator.device)
    return captioned(rows_picture(from_prior(model, n, context, generator, mean), schema), what)


def from_prior(
    model: Model, n: int, context: Tensor | None, generator: torch.Generator | None, mean: bool
) -> np.ndarray:
    """n rows of x from the prior; context: (n, width), if the model takes one."""
    with evaluating(model):
        return model.generate(n, generator=generator, mean=mean, context=context).cpu().numpy()


def example_context(schema: Schema, n: int, device: torch.device | None = None) -> Tensor | None:
    """A context for n rows (see `Context.examples`), or None for a model without context."""
    return None if schema.context is None else torch.from_numpy(schema.context.examples(n)).to(device)


OF_TRAINING_ROWS = ", with the context of training rows"


def context_in_words(schema: Schema) -> str:
    """What `example_context` is, to go after other words; empty for a model without context."""
    if schema.context is None:
        return ""
    return ", every label in turn" if schema.context.kind == "label" else f", at {schema.context.centre}"


def most_pictured(schema: Schema) -> int:
    """Rows that one picture can show: what is computed and drawn of them takes some 100 MB."""
    numbers = math.prod(schema.shape)
    if schema.kind != "image":
        return max(1, MOST_NUMBERS // numbers)
    channels, height, width = schema.shape
    if channels not in _COLOURED:
        channels, width = 1, channels * width
    scale = math.ceil(READABLE / max(height, width))
    drawn = (height * scale + 3) * (width * scale + 3) * min(channels, 3)
    return max(1, min(MOST_NUMBERS // numbers, 10 * MOST_NUMBERS // drawn))


def rows_picture(x: np.ndarray, schema: Schema) -> Image.Image:
    """Rows as the model sees them: a grid of images; for sequences, lines; for a table, histograms by column."""
    if schema.kind == "image":
        return image_grid(to_unit(x, schema))
    if schema.kind == "sequence":
        from vaekit.report.lines import sampled_lines

        return sampled_lines(schema.to_stored(x))
    from vaekit.report.columns import histograms_by_column

    return histograms_by_column({"samples": flat(schema.to_stored(x))}, column_names(schema), column_categories(schema))


def reconstruct(model: Model, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> np.ndarray:
    """The reconstruction of each row of x, given its context: the mean of p(x|z) at the mean of q(z|x).

    Of a discrete z, it is at the most probable z.
    """
    with evaluating(model):
        return model.decode([centre(q) for q in _code(model, x, context, mask).posteriors], context).mean.cpu().numpy()


def reconstructed_at(model: Model, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> str:
    """The z at which `reconstruct` decodes, in words."""
    first = (None if part is None else part[:1] for part in (context, mask))
    with evaluating(model):
        return centre_in_words(_code(model, x[:1], *first).posteriors[0])


def _code(model: Model, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Code:
    return model.encode(x, context) if mask is None else model.encode(x, context, mask)


def traversal_picture(x: np.ndarray, names: Sequence[str], schema: Schema) -> Image.Image:
    """A line of pictures for each traversal, its name on the left; of sequences a panel, in which they are lines.

    Args:
        x: Rows as the model sees them, (lines, steps, *shape).
        names: Of the lines.
        schema: Of the data, which are pictures or sequences.
    """
    if schema.kind == "sequence":
        from vaekit.report.lines import traversed_lines

        return traversed_lines(schema.to_stored(x), names)
    count, steps = x.shape[:2]
    grid = image_grid(to_unit(x.reshape(count * steps, *schema.shape), schema), columns=steps)
    tall = (grid.height - 3) // count
    font = ImageFont.load_default(max(11, min(16, tall // 3)))
    margin = round(max((font.getlength(name) for name in names), default=0))
    margin += 12 if margin else 0
    canvas = Image.new("RGB", (margin + grid.width, grid.height), "white")
    canvas.paste(grid, (margin, 0))
    for number, name in enumerate(names):
        ImageDraw.Draw(canvas).text((6, 3 + tall * (number + 0.5)), name, "black", font, "lm")
    return canvas


def film_strip(pictures: Mapping[int, bytes]) -> Image.Image | None:
    """Pictures of samples by epoch, side by side, the first and the last among them; None where there are not two.

    Args:
        pictures: PNG files by epoch; those that are damaged or too large are left out.
    """
    opened: dict[int, Image.Image] = {}
    for epoch in sorted(pictures):
        with suppress(OSError, ValueError, SyntaxError, struct.error), Image.open(io.BytesIO(pictures[epoch])) as image:
            if image.format == "PNG" and image.width * image.height <= _MOST_PIXELS:
                opened[epoch] = _without_caption(image.convert("RGB"))
    if len(opened) < 2:
        return None
    epochs = [list(opened)[i] for i in np.unique(np.linspace(0, len(opened) - 1, _FRAMES).round().astype(int))]
    font, width = ImageFont.load_default(15), _FRAME
    frames = [opened[e].resize((width, max(1, round(opened[e].height * width / opened[e].width)))) for e in epochs]
    strip = Image.new("RGB", (len(frames) * (width + 10) - 10, 26 + max(frame.height for frame in frames)), "white")
    for place, (epoch, frame) in enumerate(zip(epochs, frames, strict=True)):
        strip.paste(frame, (place * (width + 10), 26))
        ImageDraw.Draw(strip).text((place * (width + 10) + 2, 4), f"epoch {epoch}", "black", font)
    return strip


def _without_caption(picture: Image.Image) -> Image.Image:
    """The picture above the white strip that `captioned` adds, which gutters of grey lie over."""
    grey = np.flatnonzero(np.asarray(picture.convert("L")).mean(1) < (GUTTER + 255) / 2)
    return picture.crop((0, 0, picture.width, int(grey[-1]) + 1)) if len(grey) else picture


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """The picture over a line of text, or several, in a strip of white below it."""
    size = max(12, min(20, picture.width // 40))
    font = ImageFont.load_default(size)
    margin, lines = size // 2, [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        fits = font.getlength(longer) <= picture.width - 2 * margin
        lines = [*lines[:-1], longer] if fits or not lines[-1] else [*lines, word]
    canvas = Image.new("RGB", (picture.width, picture.height + len(lines) * (size + 3) + 2 * margin), "white")
    canvas.paste(picture, (0, 0))
    ImageDraw.Draw(canvas).multiline_text((margin, picture.height + margin), "\n".join(lines), "black", font, spacing=3)
    return canvas


def column_names(schema: Schema) -> tuple[str, ...]:
    """The names of a table's columns."""
    return schema.columns or tuple(f"column {i}" for i in range(math.prod(schema.shape)))


@dataclass(frozen=True)
class Categories:
    """The categories of a column.

    Attributes:
        names: Of each.
        ordered: Whether that is their order.
    """

    names: tuple[str, ...]
    ordered: bool = False

    def most(self, counts: np.ndarray, most: int) -> np.ndarray:
        """The numbers of the most frequent ones, by their counts (categories,): in their order, if they have one."""
        found = counts.argsort(kind="stable")[::-1][:most]
        return np.sort(found) if self.ordered else found


OfColumns = Sequence[Categories | None]  # None of a column of numbers


def column_categories(schema: Schema) -> OfColumns:
    """The categories of each column; nothing where no column is known."""
    return [
        None if field.is_number else Categories(field.categories or ("0", "1"), field.kind == "ordinal")
        for field in schema.fields or ()
    ]


def observed(stored: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Rows with NaN in place of cells that are missing."""
    return stored if mask is None else np.where(mask, stored, np.nan)


def flat(rows: np.ndarray) -> np.ndarray:
    """Rows (n, ...) as a table of numbers."""
    return rows.reshape(len(rows), -1)


def _displayed(schema: Schema) -> Support | None:
    """The support that sets the range of the display; None if it is unbounded.

    That of the stored values where `to_stored` leads back to them, as it does not from binarised ones.
    """
    back = schema.scale is not None or schema.stored == schema.support
    support = schema.stored if back else schema.support
    return support if support.kind in ("binary", "levels", "unit") else None


def _top(support: Support) -> int:
    return support.count - 1 if isinstance(support, Levels) else 1


def _paste(rows: Sequence[np.ndarray], gaps: Sequence[int], columns: int, pad: int, scale: int | None) -> Image.Image:
    """Rows of images on one canvas, with gaps[i] pixels above row i and the last gap below them all."""
    shape = rows[0].shape if rows else (0,)
    if len(shape) != 4 or 0 in shape:
        raise SpecError(f"got images of shape {shape}: (n, channels, height, width) is needed", field="images")
    if shape[1] not in _COLOURED:
        rows = [row.transpose(0, 2, 1, 3).reshape(len(row), 1, shape[2], -1) for row in rows]
        shape = rows[0].shape
    _, channels, height, width = shape
    scale = scale or math.ceil(READABLE / max(height, width))
    bottoms = np.cumsum([gap + height * scale for gap in gaps[:-1]])
    size = (int(bottoms[-1]) + gaps[-1], columns * (width * scale + pad) + pad)
    canvas = np.full((*size, min(channels, 3)), GUTTER, dtype=np.uint8)
    for row, bottom in zip(rows, bottoms, strict=True):
        for column, image in enumerate(_bytes(row)):
            left = pad + column * (width * scale + pad)
            enlarged = image.repeat(scale, 0).repeat(scale, 1)
            canvas[bottom - height * scale : bottom, left : left + width * scale] = enlarged
    return Image.fromarray(canvas if channels > 1 else canvas[..., 0])


def _bytes(images: np.ndarray) -> np.ndarray:
    """(n, c, h, w) in [0, 1] as (n, h, w, 1 or 3) bytes; transparent pixels let the gutter's grey through."""
    pixels = np.moveaxis(np.nan_to_num(images).clip(0, 1), 1, -1) * 255
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:] / 255
        pixels = pixels[..., :3] * alpha + GUTTER * (1 - alpha)
    return pixels.round().astype(np.uint8)
