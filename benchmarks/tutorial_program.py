"""The tutorial's program, written anew from its description in plain PyTorch, to compare vaekit with.

A variational autoencoder of 784 pixels in [0, 1]: perceptrons 784-512-512-2L and L-512-512-784 with ReLU, L = 16, a
soft-label cross-entropy, one sample of z for each image, the KL as ln q(z|x) - ln p(z) at that sample, Adam at 1e-3,
batches of 16, 50 epochs. Probabilities are clamped, and NaN is caught by assert, as the program does.

Of its slips three are mended here, because its numbers would mean nothing with them: ln p(z) has its factor L before
ln 2 pi; images are scaled by 255 and not batch by batch; and the images, drawn without replacement, are handed in.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS = 28 * 28
SMALLEST = 1e-12  # probabilities are kept in [SMALLEST, 1 - SMALLEST]


def log_bernoulli(x: Tensor, p: Tensor) -> Tensor:
    """x ln p + (1 - x) ln (1 - p), summed over the pixels; x may lie between 0 and 1."""
    p = torch.clamp(p, SMALLEST, 1 - SMALLEST)
    return (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)


def log_normal_diagonal(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """ln N(z; mu, diag exp(log_var)), summed over the latent dimensions."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mu) ** 2 * torch.exp(-log_var)).sum(-1)


def log_normal_standard(z: Tensor) -> Tensor:
    """ln N(z; 0, I), with the constant that the program leaves out for all dimensions but one."""
    return -0.5 * (z.shape[-1] * math.log(2 * math.pi) + (z**2).sum(-1))


class Encoder(nn.Module):
    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(PIXELS, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.fc2(F.relu(self.fc1(x))))
        mu, log_var = torch.chunk(self.fc3(h), 2, dim=-1)
        return mu, log_var


class Decoder(nn.Module):
    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(latent, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, PIXELS)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc3(F.relu(self.fc2(F.relu(self.fc1(z))))))


class Vae(nn.Module):
    """use_rep: sample with the reparametrisation trick; without it, by torch.normal, which has no gradients."""

    def __init__(self, latent: int = 16, hidden: int = 512, use_rep: bool = True):
        super().__init__()
        self.encoder = Encoder(latent, hidden)
        self.decoder = Decoder(latent, hidden)
        self.use_rep = use_rep

    def sample(self, mu: Tensor, log_var: Tensor) -> Tensor:
        std = torch.exp(0.5 * log_var)
        return mu + std * torch.randn_like(std) if self.use_rep else torch.normal(mu, std)

    def elbo(self, x: Tensor, eps: Tensor | None = None) -> Tensor:
        """The bound for each image from one z; `eps` fixes its noise."""
        mu, log_var = self.encoder(x)
        assert not torch.isnan(mu).any(), "the encoder gives NaN"
        assert not torch.isnan(log_var).any(), "the encoder gives NaN"
        z = self.sample(mu, log_var) if eps is None else mu + torch.exp(0.5 * log_var) * eps
        return log_bernoulli(x, self.decoder(z)) + log_normal_standard(z) - log_normal_diagonal(z, mu, log_var)


@dataclass
class History:
    """Losses after each epoch, in nats for each image; `failure` says where and how training broke, if it did."""

    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    failure: str = ""


def run(
    train: Tensor, valid: Tensor, seed: int, *, epochs: int = 50, batch_size: int = 16, use_rep: bool = True
) -> tuple[Vae, History]:
    """Train on images (rows, 784) in [0, 1]; prints every 10 epochs."""
    torch.manual_seed(seed)
    model, history, step = Vae(use_rep=use_rep), History(), 0
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for index in torch.randperm(len(train)).split(batch_size):
            try:
                loss = -model.elbo(train[index]).mean()
                assert not torch.isnan(loss), "the loss is NaN"
            except (AssertionError, RuntimeError) as error:
                history.failure = f"step {step} (epoch {epoch}): {error}"
                return model, history
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(index)
            step += 1
        history.train.append(total / len(train))
        with torch.no_grad():
            history.valid.append(-model.elbo(valid).mean().item())
        if epoch % 10 == 0:
            print(f"  epoch {epoch}: train {history.train[-1]:.2f}, validation {history.valid[-1]:.2f}")
    return model, history
