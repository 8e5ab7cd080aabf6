"""What a VAE is: posterior, prior, likelihood, and the record of one pass. Pure torch: no files, no printing."""

from vaekit.models.conditional import Conditional, Rescale
from vaekit.models.families import (
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    Likelihood,
    SoftBernoulli,
)
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.models.networks import Conv, Mlp, Network, ResNet
from vaekit.models.posteriors import FlowPosterior, FullGaussian, Posterior
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
    "Latent",
    "Likelihood",
    "LinearGaussian",
    "Mixture",
    "Mlp",
    "Model",
    "Network",
    "Posterior",
    "Prior",
    "ResNet",
    "Rescale",
    "SoftBernoulli",
    "Standard",
    "Vamp",
]
