"""A trained model as functions of rows as they are stored: preprocessing and its inverse inside."""

import math

import torch
from torch import Tensor, nn

from vaekit.data import Levels, Mixed, Schema
from vaekit.evaluation.blocks import evaluating
from vaekit.models.distributions.cells import observed_log_prob
from vaekit.randomness import Purpose, new_generator
from vaekit.runs import TrainedRun, posterior_moments

_HIDDEN = 7  # of the cells of examples, where cells may be missing, every so many is


class StoredEncoder(nn.Module):
    """Rows as they are stored to the mean and the standard deviation of q(z|x).

    The call takes x (batch, ...) in the axes and the units of the data, NaN where a cell is missing; a category is its
    number among those of its column, and what was binarised is so by a threshold at one half. If the encoder is given
    a context, it takes that, too, as stored numbers (batch, width). It returns means and standard deviations, (batch,
    latents) each, the groups of latents side by side; of a discrete z the most probable value.

    Args:
        trained: The run.
    """

    def __init__(self, trained: TrainedRun):
        super().__init__()
        self.model = trained.model
        self.rows = StoredRows(trained.schema)
        self.masked = trained.schema.missing or isinstance(trained.schema.support, Mixed)
        given = trained.schema.context is not None and "encoder" in trained.settings.data.context_to
        self.context = StoredContext(trained.schema) if given else None
        binarised, stored = trained.settings.data.binarise != "none", trained.schema.stored
        self.log_scale = trained.log_scale
        self.threshold = None if not binarised else (stored.count - 1) / 2 if isinstance(stored, Levels) else 0.5

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        beside = None if self.context is None or context is None else self.context(context)
        rows, mask = self.model_rows(x)
        return posterior_moments(self.model, rows, beside, mask)

    def model_rows(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Stored rows as the x that the model takes, and which of its cells are observed; None where all are."""
        x = self.rows.channels_first(x)
        if self.threshold is not None:
            x = torch.where(torch.isnan(x), x, (x >= self.threshold).to(x.dtype))
        x = self.rows.scaled(x).float()
        if not self.masked:
            return x, None
        mask = ~torch.isnan(x)
        return torch.where(mask, x, 0), mask


class StoredDecoder(nn.Module):
    """Latents to the mean of p(x|z), as the data is stored.

    The call takes z (batch, latents), the groups of latents side by side, and the context as stored numbers (batch,
    width), if the model is given one. It returns the mean (batch, ...) in the axes and the units of the data; of a
    category the most probable one, by its number.

    Args:
        trained: The run.
    """

    def __init__(self, trained: TrainedRun):
        super().__init__()
        self.model = trained.model
        self.rows = StoredRows(trained.schema)
        self.context = None if trained.schema.context is None else StoredContext(trained.schema)
        self.shapes = trained.latent_shapes

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        beside = None if self.context is None or context is None else self.context(context)
        return self.rows.as_stored(self.model.decode(self.groups(z), beside).mean)

    def groups(self, z: Tensor) -> list[Tensor]:
        """The groups of latents in z (batch, latents)."""
        flat = z.split([math.prod(shape) for shape in self.shapes], 1)
        return [group.unflatten(1, shape) for group, shape in zip(flat, self.shapes, strict=True)]


class StoredTerms(nn.Module):
    """Rows as they are stored, and latents, to ln p(x|z) and ln p(z), in nats.

    The call takes x (batch, ...) and z (batch, latents), as a `StoredEncoder` and a `StoredDecoder` do, and the context
    as stored numbers (batch, width), if the model is given one. It returns both terms, (batch,) each: of a row the
    observed cells, with a density that is one of stored values.

    Args:
        encoder: The run's.
        decoder: The run's.
    """

    cells: Tensor

    def __init__(self, encoder: StoredEncoder, decoder: StoredDecoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        scale = decoder.rows.scale.abs().log().expand(decoder.rows.event_shape)
        self.register_buffer("cells", scale * (encoder.log_scale != 0))

    def forward(self, x: Tensor, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        model = self.decoder.model
        beside = None if self.decoder.context is None or context is None else self.decoder.context(context)
        rows, mask = self.encoder.model_rows(x)
        groups = self.decoder.groups(z)
        log_px = observed_log_prob(model.decode(groups, beside), rows, mask)
        log_pz = model.log_joint(rows, groups, beside, mask) - log_px
        return log_px - self.log_scale(mask).to(log_px.dtype), log_pz

    def log_scale(self, mask: Tensor | None) -> Tensor:
        """What a log-density of x is above that of the row as it is stored, in nats, by its observed cells."""
        return self.cells.sum() if mask is None else (self.cells * mask).flatten(1).sum(1)


class StoredRows(nn.Module):
    """Rows as they are stored to rows with channels first and scaled, and back.

    Args:
        schema: Of the data.

    Attributes:
        dtype: In which stored values are exact enough: double precision of tables and of arrays that have it.
        shape: Of one row as it is stored.
        event_shape: Of one row with channels first.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, schema: Schema):
        super().__init__()
        wide = schema.kind == "table" or schema.dtype == "float64"
        self.dtype = torch.float64 if wide else torch.float32
        axes = schema.axes or "n"
        self.one_channel, self.channels_last = axes in ("nhw", "nt", "ndhw"), axes in ("nhwc", "ntc", "ndhwc")
        channels, *others = schema.shape
        self.shape = tuple(others if self.one_channel else (*others, channels) if self.channels_last else schema.shape)
        self.event_shape = tuple(schema.shape)
        along = (-1, *[1] * (len(schema.shape) - 1))
        for name, numbers, default in (("loc", schema.loc, 0.0), ("scale", schema.scale, 1.0)):
            self.register_buffer(name, torch.tensor(numbers or (default,), dtype=self.dtype).reshape(along))

    def channels_first(self, stored: Tensor) -> Tensor:
        """Rows (batch, *self.shape) as (batch, *schema.shape)."""
        if self.one_channel:
            return stored.unsqueeze(1)
        return stored.movedim(-1, 1) if self.channels_last else stored

    def scaled(self, stored: Tensor) -> Tensor:
        """The x that a model takes, of rows with channels first."""
        return (stored - self.loc) / self.scale

    def as_stored(self, x: Tensor) -> Tensor:
        """The inverse of `scaled` and `channels_first`."""
        return self.channels_as_stored(x.to(self.dtype) * self.scale + self.loc)

    def channels_as_stored(self, x: Tensor) -> Tensor:
        """The inverse of `channels_first`."""
        if self.one_channel:
            return x.squeeze(1)
        return x.movedim(1, -1) if self.channels_last else x


class StoredContext(nn.Module):
    """Context as stored numbers (batch, width) to what a model takes; 0 where one is NaN.

    Args:
        schema: Of the data.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, schema: Schema):
        super().__init__()
        assert schema.context is not None
        self.register_buffer("loc", torch.tensor(schema.context.loc, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(schema.context.scale, dtype=torch.float64))

    def forward(self, stored: Tensor) -> Tensor:
        scaled = (stored - self.loc) / self.scale
        return torch.where(torch.isnan(scaled), 0, scaled).float()

    def inverse(self, scaled: Tensor) -> Tensor:
        """Stored numbers, in double precision."""
        return scaled.double() * self.scale + self.loc


@torch.no_grad()
def examples(trained: TrainedRun, n: int) -> dict[str, Tensor]:
    """Rows to try an encoder and a decoder with: x and context as they are stored, and the z that x was made from.

    They are samples of the model, so no data is needed; where cells may be missing, some are.
    """
    rows, schema = StoredRows(trained.schema), trained.schema
    context = None if schema.context is None else torch.from_numpy(schema.context.examples(n))
    with evaluating(trained.model):
        generator = new_generator(0, Purpose.GENERATE)
        x, latents = trained.model.simulate(n, generator=generator, context=context)
    stored = rows.as_stored(x)
    if schema.missing:
        stored.view(-1)[::_HIDDEN] = math.nan
    found = {"x": stored, "z": torch.cat([z.flatten(1) for z in latents], 1).float()}
    return found if context is None else found | {"context": StoredContext(schema).inverse(context)}
