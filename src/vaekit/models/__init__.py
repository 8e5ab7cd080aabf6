"""What a VAE is: posterior, prior, likelihood, and the record of one pass. Pure torch: no files, no printing."""

from vaekit.models.beta_binomial import BetaBinomial
from vaekit.models.code_priors import AutoregressiveCodes, FactorisedCodes
from vaekit.models.codes import CodeSpace
from vaekit.models.conditional import Conditional, Log1p, Rescale
from vaekit.models.counts import NegativeBinomial, Poisson, ZeroInflated
from vaekit.models.dense_ladder import Dense
from vaekit.models.discrete import Anneal, BernoulliPosterior, CategoricalPosterior
from vaekit.models.drawing import Latent
from vaekit.models.families import (
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    SoftBernoulli,
)
from vaekit.models.groups import Groups
from vaekit.models.hamiltonian import Hamiltonian
from vaekit.models.heavy_tails import Laplace, StudentT
from vaekit.models.ladder import Ladder
from vaekit.models.likelihoods import Likelihood
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.models.logistic_mixture import LogisticMixture
from vaekit.models.networks import Conv, Mlp, Network, ResNet
from vaekit.models.planar import Planar, Radial
from vaekit.models.posteriors import FlowPosterior, FullGaussian, Point, Posterior
from vaekit.models.priors import Flow, Mixture, Prior, Standard, Vamp
from vaekit.models.quantised import FsqPosterior, VqPosterior
from vaekit.models.samplers import FromAggregated, FromFlow, FromMixture, FromPrior, Sampler
from vaekit.models.spatial_ladder import Spatial
from vaekit.models.sphere import PowerSpherical, UniformSphere, VonMisesFisher
from vaekit.models.vae import VAE, Code, Draw, Model

__all__ = [
    "VAE",
    "Anneal",
    "AutoregressiveCodes",
    "Bernoulli",
    "BernoulliPosterior",
    "BetaBinomial",
    "CalibratedGaussian",
    "Categorical",
    "CategoricalPosterior",
    "Code",
    "CodeSpace",
    "Conditional",
    "ContinuousBernoulli",
    "Conv",
    "Dense",
    "Draw",
    "FactorisedCodes",
    "Flow",
    "FlowPosterior",
    "FromAggregated",
    "FromFlow",
    "FromMixture",
    "FromPrior",
    "FsqPosterior",
    "FullGaussian",
    "Gaussian",
    "Groups",
    "Hamiltonian",
    "Ladder",
    "Laplace",
    "Latent",
    "Likelihood",
    "LinearGaussian",
    "Log1p",
    "LogisticMixture",
    "Mixture",
    "Mlp",
    "Model",
    "NegativeBinomial",
    "Network",
    "Planar",
    "Point",
    "Poisson",
    "Posterior",
    "PowerSpherical",
    "Prior",
    "Radial",
    "ResNet",
    "Rescale",
    "Sampler",
    "SoftBernoulli",
    "Spatial",
    "Standard",
    "StudentT",
    "UniformSphere",
    "Vamp",
    "VonMisesFisher",
    "VqPosterior",
    "ZeroInflated",
]
