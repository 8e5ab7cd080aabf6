"""What every check of a part builds on: requirements, and properties that all distributions and modules share."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.distributions import support_of
from vaekit.models.distributions.noise import draw_from
from vaekit.models.families import PosteriorFamily
from vaekit.models.likelihoods import Gaussian
from vaekit.models.posteriors import CategoricalPosterior, PowerSpherical
from vaekit.randomness import new_generator

ROUNDING = 1e-10
CONTEXT = 2  # numbers of context
KINDS: dict[str, PosteriorFamily] = {  # of z, and a posterior of each
    "real": Gaussian(),
    "sphere": PowerSpherical(),
    "discrete": CategoricalPosterior(),
}


def contract_check(function: Callable[..., None]) -> Callable[..., None]:
    """Give a check random numbers and a precision of its own, and name the part in what it raises."""

    @functools.wraps(function)
    def checked(part: Any, *args: Any, **settings: Any) -> None:
        if isinstance(part, type):
            name = part.__name__
            raise TypeError(f"{name} is a class: give an instance, as in {function.__name__}({name}())")
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(0)
            try:
                function(part, *args, **settings)
            except AssertionError as error:
                raise AssertionError(f"{function.__name__}({part!r}): {error}") from error.__cause__

    return checked


def require(holds: bool, text: str) -> None:
    """Fail with a text, unless it holds."""
    if not holds:
        raise AssertionError(text)


def require_members(part: Any, *wanted: str) -> None:
    """Fail where a part lacks members, each named as `name(arguments)`; all that are missing are named."""
    missing = [f"`{what}`" for what in wanted if not hasattr(part, what.partition("(")[0])]
    require(not missing, f"it has no {', no '.join(missing)}")


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn what a part raises into a failure of the check that tries it."""
    try:
        yield
    except NotImplementedError as error:
        missing = f": {error}" if str(error) else ", as the distribution does not define it"
        raise AssertionError(f"{what} raises NotImplementedError{missing}") from error
    except (RuntimeError, TypeError, LookupError, AttributeError) as error:
        raise AssertionError(f"{what} raises {type(error).__name__}: {error}") from error


def inputs(*lead: int) -> Tensor:
    """Random rows (*lead, 3) for a small network."""
    return torch.randn(*lead, 3, dtype=torch.float64, generator=new_generator(1))


def distribution_of(module: nn.Module, role: str, *inputs: Tensor) -> Distribution:
    """What a part returns when it is called, which should be a distribution."""
    with named(f"calling {role}"):
        found = module(*inputs)
    require(isinstance(found, Distribution), f"{role} returns {type(found).__name__}, not a torch Distribution")
    return found


def check_shapes(p: Distribution, lead: tuple[int, ...], event: tuple[int, ...]) -> None:
    """Fail where a distribution is of other shapes."""
    require(p.event_shape == event, f"the event shape is {tuple(p.event_shape)}, and should be {tuple(event)}")
    require(p.batch_shape == lead, f"the batch shape is {tuple(p.batch_shape)}, and should be {tuple(lead)}")


def checked_samples(p: Distribution, shape: tuple[int, ...], where: str = "") -> Tensor:
    """Samples, which should have the right shape, be finite, and be a function of the generator.

    Args:
        p: The distribution.
        shape: Of the sample.
        where: What a message about numbers that are not finite adds.
    """
    with named("sampling, by rsample or sample,"), torch.no_grad():
        before = torch.get_rng_state()
        first, again = draw_from(p, shape, new_generator(3)), draw_from(p, shape, new_generator(3))
        changed = not torch.equal(before, torch.get_rng_state())
    expected = (*shape, *p.batch_shape, *p.event_shape)
    require(first.shape == expected, f"samples have shape {tuple(first.shape)}, and should have {expected}")
    require(bool(first.isfinite().all()), f"samples are not finite{where}")
    require(torch.equal(first, again), "samples differ for the same generator")
    require(not changed, "sampling changes torch's global random state")
    return first


def checked_log_prob(p: Distribution, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """ln p of samples, which should be finite, in float64 and of this shape."""
    with named("log_prob"):
        found = p.log_prob(x)
    require(found.shape == shape, f"log_prob has shape {tuple(found.shape)}, and should have {shape}")
    require(found.dtype == torch.float64, f"log_prob is {found.dtype} where its module is in float64")
    require(bool(found.isfinite().all()), "log_prob of a sample is not finite")
    return found


def check_inside(p: Distribution, x: Tensor) -> None:
    """Fail where samples lie outside of the support."""
    support = support_of(p)
    if support is not None:
        require(bool(support.check(x.double()).all()), f"samples lie outside of the support, {support}")


def check_alone(alone: Tensor, together: Tensor, what: str) -> None:
    """Fail where a row alone has another value than in its batch."""
    close = alone.shape == together.shape and torch.allclose(alone, together, ROUNDING, ROUNDING)
    require(close, f"{what} of a row depends on the other rows of its batch")


def check_rows_alone(
    score: Callable[[Tensor, Any], Tensor], x: Tensor, together: Tensor, axes: int | None = None
) -> None:
    """Along each leading axis, or the first few, log_prob of one entry is that in the whole."""
    for axis in range(together.dim() if axes is None else axes):
        for i in range(together.shape[axis]):
            with named("log_prob of a single row"):
                alone = score(x.narrow(axis, i, 1), slice(i, i + 1))
            check_alone(alone, together.narrow(axis, i, 1), "log_prob")


def check_modes(module: nn.Module, score: Callable[[], Tensor]) -> None:
    """Dropout or batch normalisation would make log_prob another in training, or at random."""
    training = module.training
    with torch.no_grad():
        found = []
        for mode in (True, False):
            module.train(mode)
            found.append(score())
    module.train(training)
    same = torch.allclose(found[0], found[1], ROUNDING, ROUNDING)
    require(same, "log_prob differs between train and eval mode: leave out dropout and batch normalisation")


def check_gradients(value: Tensor, module: nn.Module, every: bool = True) -> None:
    """Fail where the gradient of a weight is missing or not finite."""
    named = dict(module.named_parameters())
    if not named:
        return
    require(value.requires_grad, "no gradient reaches its weights")
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    for name, gradient in zip(named, found, strict=True):
        require(gradient is not None or not every, f"no gradient reaches the weight {name}")
        require(gradient is None or bool(gradient.isfinite().all()), f"the gradient of {name} is not finite")


def check_saved(
    module: nn.Module, make: Callable[[], nn.Module], score: Callable[[nn.Module], Tensor], expected: Tensor
) -> None:
    """Fail where a copy with saved weights has other values."""
    other = make()
    with named("loading saved weights"):
        other.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, strict=True)
    with torch.no_grad():
        same = torch.equal(score(other), expected.detach())
    require(same, "with saved weights it is another: what it depends on is not among its parameters and buffers")


class OneRow(Distribution):
    """The only row of a batch of one."""

    def __init__(self, base: Distribution):
        self.base = base
        super().__init__(torch.Size(), base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value.unsqueeze(-1 - len(self.event_shape)))[..., 0]


@torch.no_grad()
def perturbed(module: nn.Module) -> nn.Module:
    """The module with its weights moved at random, away from initial values such as 0."""
    generator = new_generator(5)
    for weight in module.parameters():
        inputs = weight.shape[-1] if weight.dim() > 1 else 1
        weight += 0.3 * torch.randn(weight.shape, dtype=weight.dtype, generator=generator) / inputs**0.5
    return module
