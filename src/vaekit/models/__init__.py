"""What a VAE is: posterior, prior, likelihood, and the record of one pass. Pure torch: no files, no printing."""

from vaekit.models.conditional import Conditional, Log1p, Rescale
from vaekit.models.distributions.codes import CodeSpace
from vaekit.models.drawing import Latent
from vaekit.models.hierarchical import Groups
from vaekit.models.hierarchical.dense import DenseHierarchy
from vaekit.models.hierarchical.model import HierarchicalVAE
from vaekit.models.hierarchical.spatial import SpatialHierarchy
from vaekit.models.likelihoods import Likelihood
from vaekit.models.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli, SoftBernoulli
from vaekit.models.likelihoods.beta_binomial import BetaBinomial
from vaekit.models.likelihoods.categorical import Categorical
from vaekit.models.likelihoods.columns import Columns
from vaekit.models.likelihoods.count_mixture import CountMixture
from vaekit.models.likelihoods.counts import NegativeBinomial, Poisson, ZeroInflated
from vaekit.models.likelihoods.gaussian import CalibratedGaussian, Gaussian
from vaekit.models.likelihoods.heavy_tails import CalibratedStudentT, Laplace, StudentT
from vaekit.models.likelihoods.log_normal import LogNormal
from vaekit.models.likelihoods.logistic_mixture import LogisticMixture
from vaekit.models.likelihoods.multinomial import Multinomial
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.models.networks import Network
from vaekit.models.networks.convolutional import Conv, ResNet
from vaekit.models.networks.mlp import Mlp
from vaekit.models.posteriors import Posterior
from vaekit.models.posteriors.deterministic import Deterministic
from vaekit.models.posteriors.directions import PowerSpherical, VonMisesFisher
from vaekit.models.posteriors.discrete import Anneal, BernoulliPosterior, CategoricalPosterior
from vaekit.models.posteriors.flow import FlowPosterior
from vaekit.models.posteriors.full_gaussian import FullGaussian
from vaekit.models.posteriors.hamiltonian import Hamiltonian
from vaekit.models.posteriors.planar import Planar, Radial
from vaekit.models.posteriors.quantised import FsqPosterior, VqPosterior
from vaekit.models.priors import Prior
from vaekit.models.priors.codes import AutoregressiveCodes, FactorisedCodes
from vaekit.models.priors.flow import Flow
from vaekit.models.priors.mixture import Mixture
from vaekit.models.priors.sphere import UniformSphere
from vaekit.models.priors.standard_normal import StandardNormal
from vaekit.models.priors.vamp import Vamp
from vaekit.models.size_factor import SizeFactor
from vaekit.models.vae import VAE, Code, Draw, Model

__all__ = [
    "VAE",
    "Anneal",
    "AutoregressiveCodes",
    "Bernoulli",
    "BernoulliPosterior",
    "BetaBinomial",
    "CalibratedGaussian",
    "CalibratedStudentT",
    "Categorical",
    "CategoricalPosterior",
    "Code",
    "CodeSpace",
    "Columns",
    "Conditional",
    "ContinuousBernoulli",
    "Conv",
    "CountMixture",
    "DenseHierarchy",
    "Deterministic",
    "Draw",
    "FactorisedCodes",
    "Flow",
    "FlowPosterior",
    "FsqPosterior",
    "FullGaussian",
    "Gaussian",
    "Groups",
    "Hamiltonian",
    "HierarchicalVAE",
    "Laplace",
    "Latent",
    "Likelihood",
    "LinearGaussian",
    "Log1p",
    "LogNormal",
    "LogisticMixture",
    "Mixture",
    "Mlp",
    "Model",
    "Multinomial",
    "NegativeBinomial",
    "Network",
    "Planar",
    "Poisson",
    "Posterior",
    "PowerSpherical",
    "Prior",
    "Radial",
    "ResNet",
    "Rescale",
    "SizeFactor",
    "SoftBernoulli",
    "SpatialHierarchy",
    "StandardNormal",
    "StudentT",
    "UniformSphere",
    "Vamp",
    "VonMisesFisher",
    "VqPosterior",
    "ZeroInflated",
]
