"""A trained model as functions of rows as they are stored, in NumPy: what the page asks of it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vaekit.errors import NotApplicable
from vaekit.evaluation import evaluating
from vaekit.evaluation.importance import rate_of
from vaekit.export.stored import StoredDecoder, StoredEncoder, StoredTerms
from vaekit.randomness import Purpose, new_generator
from vaekit.runs import TrainedRun


@dataclass(frozen=True)
class Bound:
    """The ELBO of one row and its terms, in nats, by samples of z from q(z|x).

    Attributes:
        elbo: Mean of ln p(x, z) - ln q(z|x); None of a deterministic posterior, which has no bound.
        error: Its standard error over the samples.
        log_likelihood: Mean of ln p(x|z), of x as it is stored.
        kl: KL(q(z|x) || p(z)), in closed form where there is one, else the mean of ln q(z|x) - ln p(z).
        z: The samples, (samples, latents).
    """

    elbo: float | None
    error: float | None
    log_likelihood: float
    kl: float | None
    z: np.ndarray


class StoredModel:
    """A trained model whose rows are as they are stored, and whose z are all groups of latents side by side.

    Args:
        trained: The run.

    Attributes:
        dtype: Of rows.
        shape: Of one row.
        latents: Dimensions of z.
        width: Numbers of the context of a row; 0 where the model takes none.
        context_to: Which of "encoder" and "decoder" take it.
        posterior: "gaussian" where q(z|x) is a Gaussian of one group with independent dimensions.
    """

    def __init__(self, trained: TrainedRun):
        self.trained = trained
        self.encoder, self.decoder = StoredEncoder(trained).eval(), StoredDecoder(trained).eval()
        self.terms = StoredTerms(self.encoder, self.decoder)
        self.dtype = np.dtype(str(self.encoder.rows.dtype).removeprefix("torch."))
        self.shape = self.encoder.rows.shape
        self.latents = sum(math.prod(shape) for shape in self.decoder.shapes)
        context = trained.schema.context
        self.width = 0 if context is None else len(context.names)
        takes = {"encoder": self.encoder.context, "decoder": self.decoder.context}
        self.context_to = [name for name, part in takes.items() if part is not None]
        self.posterior = "gaussian" if self._is_gaussian() else "other"

    @torch.no_grad()
    def decode(self, z: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        """Means of p(x|z), (n, *shape), of z (n, latents)."""
        found = self.decoder(torch.from_numpy(z), self._context(self.decoder, context))
        return found.numpy().astype(self.dtype, copy=False)

    @torch.no_grad()
    def encode(self, x: np.ndarray, context: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of q(z|x), (n, latents) each, of x (n, *shape)."""
        mean, scale = self.encoder(torch.from_numpy(x), self._context(self.encoder, context))
        return mean.float().numpy(), scale.float().numpy()

    @torch.no_grad()
    def bound(self, x: np.ndarray, samples: int, seed: int = 0, context: np.ndarray | None = None) -> Bound:
        """The ELBO of one row (1, *shape) and its terms.

        Raises:
            DataError: The likelihood gives a value of the row no probability.
        """
        beside = None if context is None or self.decoder.context is None else self.decoder.context(_tensor(context))
        rows, mask = self.encoder.model_rows(torch.from_numpy(x))
        generator = new_generator(seed, Purpose.EVALUATE, 0)
        with evaluating(self.trained.model):
            draw = self.trained.model.draw(rows, samples, context=beside, mask=mask, generator=generator)
        z = torch.cat([latent.z.flatten(2) for latent in draw.latents], 2)[:, 0].float()
        log_px = (draw.log_px - self.terms.log_scale(mask)).double()
        if not draw.has_bound:
            return Bound(None, None, float(log_px.mean()), None, z.numpy())
        elbo = (log_px + draw.log_pz - draw.log_qz).double()[:, 0]
        kl = torch.stack([rate_of(latent) for latent in draw.latents]).sum()
        error = float(elbo.std() / math.sqrt(samples)) if samples > 1 else None
        return Bound(float(elbo.mean()), error, float(log_px.mean()), float(kl), z.numpy())

    def sound(self, x: np.ndarray) -> bytes:
        """The sound of features x (1, *shape), as a wav file.

        Raises:
            NotApplicable: The rows are no features of sound.
        """
        from vaekit.report.sounds import wavs

        if self.trained.schema.sound is None:
            raise NotApplicable("the rows of this run are no recordings")
        return wavs(x, self.trained.schema.sound)[0]

    def _context(self, part: StoredEncoder | StoredDecoder, context: np.ndarray | None) -> Tensor | None:
        return None if part.context is None or context is None else _tensor(context)

    def _is_gaussian(self) -> bool:
        rows, context = torch.zeros(1, *self.trained.schema.shape), self.trained.context(1)
        with evaluating(self.trained.model):
            posteriors = self.trained.model.encode(rows, context).posteriors
        refined = getattr(self.trained.model, "refine", None) is not None
        q = posteriors[0]
        gaussian = isinstance(q, Independent) and isinstance(q.base_dist, Normal)
        return len(posteriors) == 1 and gaussian and not refined


def _tensor(context: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(context, np.float64))
