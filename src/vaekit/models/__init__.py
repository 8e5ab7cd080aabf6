"""What a VAE is: posterior, prior, likelihood, and the record of one pass. Pure torch: no files, no printing."""

from vaekit.models.conditional import Conditional, Log1p, Rescale
from vaekit.models.counts import NegativeBinomial, Poisson
from vaekit.models.families import (
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    SoftBernoulli,
)
from vaekit.models.heavy_tails import Laplace, StudentT
from vaekit.models.likelihoods import Likelihood
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.models.networks import Conv, Mlp, Network, ResNet
from vaekit.models.posteriors import FlowPosterior, FullGaussian, Point, Posterior
from vaekit.models.priors import Flow, Mixture, Prior, Standard, Vamp
from vaekit.models.vae import VAE, Code, Draw, Latent, Model

__all__ = [
    "VAE",
    "Bernoulli",
    "CalibratedGaussian",
    "Categorical",
    "Code",
    "Conditional",
    "ContinuousBernoulli",
    "Conv",
    "Draw",
    "Flow",
    "FlowPosterior",
    "FullGaussian",
    "Gaussian",
    "Laplace",
    "Latent",
    "Likelihood",
    "LinearGaussian",
    "Log1p",
    "Mixture",
    "Mlp",
    "Model",
    "NegativeBinomial",
    "Network",
    "Point",
    "Poisson",
    "Posterior",
    "Prior",
    "ResNet",
    "Rescale",
    "SoftBernoulli",
    "Standard",
    "StudentT",
    "Vamp",
]
