"""pythae: its own trainer, its own likelihood, around the common networks."""

import itertools
import tempfile
import time
from functools import cache

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from speed import common
from speed.common import CHUNK, LATENT, LEARNING_RATE, PIXELS, held_out, noise, unit
from speed.nets import networks


class Encoder(BaseEncoder):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> ModelOutput:
        mu, log_var = self.network(x).chunk(2, -1)
        return ModelOutput(embedding=mu, log_covariance=log_var)


class Decoder(BaseDecoder):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z).sigmoid())


class Slice:
    """So many batches of a loader, from where the last slice ended: what the trainer takes for an epoch."""

    def __init__(self, loader: DataLoader):
        self.dataset, self.steps = loader.dataset, 0
        self.endless = itertools.chain.from_iterable(itertools.repeat(loader))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self):
        return itertools.islice(self.endless, self.steps)


def model(net: str) -> VAE:
    encoder, decoder = networks(net)
    config = VAEConfig(input_dim=(PIXELS,), latent_dim=LATENT, reconstruction_loss="bce")
    return VAE(config, Encoder(encoder), Decoder(decoder))


@torch.no_grad()
def bound(made: VAE, x: Tensor, eps: Tensor) -> float:
    code = made.encoder(x)
    mu, log_var = code.embedding, code.log_covariance
    z = mu + (log_var / 2).exp() * eps
    return -made.loss_function(made.decoder(z).reconstruction, x, mu, log_var, z)[0].item()


def loss(net: str, batch: int) -> dict[str, float]:
    return {"closed": -bound(model(net), torch.from_numpy(unit(batch)), torch.from_numpy(noise(batch)))}


@cache
def _trainer(net: str, batch: int) -> BaseTrainer:
    x = torch.from_numpy(unit())
    with tempfile.TemporaryDirectory() as folder:  # it insists on one, and writes nothing to it here
        config = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=batch, learning_rate=LEARNING_RATE, no_cuda=True
        )
        trainer = BaseTrainer(model(net), BaseDataset(x, torch.zeros(len(x))), training_config=config)
        trainer.prepare_training()
    trainer.train_loader = Slice(trainer.train_loader)
    return trainer


def train(net: str, batch: int, steps: int) -> float:
    """Seconds for so many steps."""
    trainer = _trainer(net, batch)
    trainer.train_loader.steps = steps
    began = time.perf_counter()
    trainer.train_step(1)
    return time.perf_counter() - began


def reach(batch: int, elbo: float, most: int) -> int:
    x, eps = (torch.from_numpy(a) for a in held_out())
    trained = _trainer("mlp", batch).model
    return common.reach(lambda steps: train("mlp", batch, steps), lambda: bound(trained, x, eps), elbo, most)


@cache
def _model() -> VAE:
    return model("mlp").eval()


@torch.no_grad()
def iwae(images: int, samples: int) -> float:
    """Seconds for the importance-weighted bound of so many images."""
    made, x = _model(), torch.from_numpy(unit(images))
    began = time.perf_counter()
    made.get_nll(x, n_samples=samples, batch_size=CHUNK)
    return time.perf_counter() - began
