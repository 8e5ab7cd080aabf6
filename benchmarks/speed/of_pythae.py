"""pythae: its own trainer, its own likelihood."""

import tempfile
import time

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn

from common import HIDDEN, LATENT, LEARNING_RATE, PIXELS, images, noise, weights


class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.top = nn.Linear(HIDDEN, 2 * LATENT)

    def forward(self, x):
        mu, log_var = self.top(self.body(x)).chunk(2, -1)
        return ModelOutput(embedding=mu, log_covariance=log_var)


class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(LATENT, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, PIXELS),
            nn.Sigmoid(),
        )

    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z))


def model() -> VAE:
    made = VAE(VAEConfig(input_dim=(PIXELS,), latent_dim=LATENT, reconstruction_loss="bce"), Encoder(), Decoder())
    layers = [layer for layer in made.modules() if isinstance(layer, nn.Linear)]
    layers.sort(key=lambda layer: layer in list(made.decoder.modules()))
    with torch.no_grad():
        for layer, (w, b) in zip(layers, weights(), strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    return made


def loss(batch: int) -> dict[str, float]:
    made, eps = model(), torch.from_numpy(noise(batch))
    made._sample_gauss = lambda mu, std: (mu + eps * std, eps)
    x = torch.from_numpy(images(batch).copy()).float() / 255
    return {"closed": made({"data": x}).loss.item()}


_trainers = {}


def train(batch: int, steps: int) -> float:
    """Seconds for so many steps."""
    if batch not in _trainers:
        x = torch.from_numpy(images().copy()).float() / 255
        data = BaseDataset(x, torch.zeros(len(x)))
        config = BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=batch, learning_rate=LEARNING_RATE
        )
        trainer = BaseTrainer(model(), data, training_config=config)
        trainer.callbacks = []
        trainer.prepare_training()
        trainer.whole = data
        _trainers[batch] = trainer
    trainer = _trainers[batch]
    part = torch.utils.data.Subset(trainer.whole, range(steps * batch))
    trainer.train_loader = trainer.get_train_dataloader(part)
    began = time.perf_counter()
    trainer.train_step(1)
    return time.perf_counter() - began
