"""What every likelihood, network and prior must do; a member of a union is tested as soon as it is listed there."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from naming import naming
from unions import examples, members, name
from vaekit.errors import SpecError
from vaekit.models import (
    VAE,
    Conditional,
    Conv,
    Flow,
    Gaussian,
    Likelihood,
    Mlp,
    Network,
    Posterior,
    Prior,
    ResNet,
    StandardNormal,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions.noise import draw_from
from vaekit.models.families import LikelihoodFamily, LikelihoodHead
from vaekit.models.networks.mlp import Linear
from vaekit.randomness import new_generator
from vaekit.testing import check_likelihood, check_posterior, check_prior

pytestmark = pytest.mark.usefixtures("one_thread")

# Row i alone and row i in a batch take other code paths in matrix products: equal to rounding, in float64.
ROUNDING = {"rtol": 1e-11, "atol": 1e-11}
ROWS = [(1,), (9,)]
SEQUENCES = [(1, 1), (3, 1), (1, 7), (2, 9), (1, 64)]
IMAGES = [(1, 1, 1), (1, 5, 7), (1, 28, 28), (3, 4, 6), (2, 1, 9)]
VOLUMES = [(1, 1, 1, 1), (2, 3, 5, 4), (3, 4, 4, 4), (1, 1, 1, 6)]
LAYOUTS = [*ROWS, *SEQUENCES, *IMAGES, *VOLUMES]
ONE_OF_EACH = [(9,), (2, 9), (1, 5, 7), (2, 3, 5, 4)]
EVENTS = [(1,), (7,), (1, 5, 7), (3, 2, 2), (3, 2), (3, 2, 1, 2)]
UNIONS = [Likelihood, Network, Prior]

every_likelihood = pytest.mark.parametrize("head", examples(Likelihood), ids=name)
every_network = pytest.mark.parametrize("network", examples(Network), ids=name)
every_direction = pytest.mark.parametrize(
    ("in_shape", "out_shape"), [shapes for event in ONE_OF_EACH for shapes in ((event, (6,)), ((3,), event))], ids=str
)


def likelihood_of(head: LikelihoodFamily, event: tuple[int, ...], latents: int = 3) -> Conditional:
    return Conditional(nn.Linear(latents, head.features(event)), head, event_shape=event).double()


def codes(*lead: int, latents: int = 3) -> Tensor:
    return torch.randn(*lead, latents, dtype=torch.float64, generator=new_generator(1))


def every_parameter_has_a_gradient(value: Tensor, module: nn.Module) -> None:
    names, weights = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    for label, gradient in zip(names, gradients, strict=True):
        assert gradient is not None, label
        assert gradient.isfinite().all(), label
        assert gradient.any(), label


def copied(source: nn.Module, target: nn.Module) -> nn.Module:
    """The target with the saved weights of the source; every one of them must fit."""
    target.load_state_dict({key: value.clone() for key, value in source.state_dict().items()}, strict=True)
    return target


@pytest.mark.parametrize("spec", [spec for union in UNIONS for spec in examples(union)], ids=name)
def test_a_spec_survives_its_configuration_and_refuses_what_it_does_not_know(spec: Any) -> None:
    (union,) = (union for union in UNIONS if type(spec) in members(union))
    adapter = TypeAdapter(union)
    assert adapter.validate_json(adapter.dump_json(spec)) == spec
    settings = adapter.dump_python(spec)
    assert adapter.validate_python(settings) == spec
    with pytest.raises(ValidationError, match="nonsense"):
        adapter.validate_python({**settings, "nonsense": 1})
    with pytest.raises(ValidationError):
        adapter.validate_python({**settings, "kind": "nonsense"})
    with pytest.raises(AttributeError):
        spec.kind = "other"


def test_a_bare_name_stands_for_a_spec_with_its_defaults() -> None:
    assert TypeAdapter(Network).validate_python("mlp") == Mlp()
    assert TypeAdapter(Likelihood).validate_python("gaussian") == Gaussian()


@every_likelihood
def test_a_likelihood_keeps_to_its_contract(head: LikelihoodFamily) -> None:
    check_likelihood(head, tuple(EVENTS))


@pytest.mark.parametrize("posterior", examples(Posterior), ids=name)
def test_a_posterior_keeps_to_its_contract(posterior: Any) -> None:
    check_posterior(posterior)


@every_likelihood
def test_a_likelihood_without_an_event_shape_has_one_flat_dimension(head: LikelihoodFamily) -> None:
    raw = torch.randn(2, head.features((5,)))
    assert head.build(BuildContext(event_shape=(5,)))(raw).event_shape == (5,)


@pytest.mark.parametrize(
    "head", [h for h in examples(Likelihood) if isinstance(likelihood_of(h, (7,)).head, LikelihoodHead)], ids=name
)
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_log_px_is_the_sum_over_the_dimensions_of_the_event(head: LikelihoodFamily, event: tuple[int, ...]) -> None:
    px = likelihood_of(head, event)(codes(4))
    x = draw_from(px, (), new_generator(2))
    torch.testing.assert_close(px.log_prob(x), px.base_dist.log_prob(x).flatten(1).sum(1))


@every_likelihood
@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_and_densities_are_finite_at_extreme_raw_numbers(
    head: LikelihoodFamily, size: float, dtype: torch.dtype
) -> None:
    built = head.build(BuildContext(event_shape=(3,)))
    if isinstance(built, nn.Module):
        built.to(dtype)
    mixed = torch.tensor([1.0, -1.0, 0.0], dtype=dtype).repeat(head.features((3,)) // 3)
    for raw in (torch.full((2, head.features((3,))), size, dtype=dtype), size * mixed.expand(2, -1)):
        raw = raw.clone().requires_grad_()
        px = built(raw, (3,))
        x = draw_from(px, (50,), new_generator(3)).detach()
        assert x.isfinite().all()
        assert px.support.check(x.to(dtype)).all()
        assert px.mean.isfinite().all()
        log_px = px.log_prob(x)
        assert log_px.isfinite().all()
        (gradient,) = torch.autograd.grad(log_px.sum(), raw)
        assert gradient.isfinite().all()


@every_network
@pytest.mark.parametrize("lead", [(), (0,), (4,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("event", LAYOUTS, ids=str)
def test_a_network_maps_any_leading_dimensions(network: Any, event: tuple[int, ...], lead: tuple[int, ...]) -> None:
    for in_shape, out_shape in ((event, None), ((3,), event)):
        features = 2 * math.prod(out_shape or (6,))
        built = network.build(in_shape, features, out_shape).double()
        x = torch.randn(*lead, *in_shape, dtype=torch.float64)
        out = built(x)
        assert out.shape == (*lead, features)
        assert out.isfinite().all()
        assert built.output_bias.shape == (features,)
        if len(lead) == 3:
            torch.testing.assert_close(out[1, 0, 2], built(x[1, 0, 2]), **ROUNDING)


@every_network
@every_direction
def test_a_network_adds_its_output_bias_last(
    network: Any, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> None:
    built = network.build(in_shape, math.prod(out_shape), out_shape)
    x = torch.randn(2, *in_shape)
    before = built(x)
    shift = torch.randn(math.prod(out_shape))
    with torch.no_grad():
        built.output_bias.add_(shift)
    torch.testing.assert_close(built(x), before + shift)


@every_network
@every_direction
def test_every_parameter_of_a_network_has_a_gradient_and_it_saves_and_loads(
    network: Any, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> None:
    features = math.prod(out_shape)
    built, other = (network.build(in_shape, features, out_shape).double() for _ in range(2))
    x = torch.randn(4, *in_shape, dtype=torch.float64)
    every_parameter_has_a_gradient(built(x).square().sum(), built)
    assert not other(x).equal(built(x))
    assert copied(built, other)(x).equal(built(x))


@every_network
@every_direction
def test_a_row_alone_is_mapped_as_in_a_batch(
    network: Any, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> None:
    built = network.build(in_shape, math.prod(out_shape), out_shape).double()
    x = torch.randn(4, *in_shape, dtype=torch.float64)
    for i in range(4):
        torch.testing.assert_close(built(x[i : i + 1])[0], built(x)[i], **ROUNDING)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "softplus"])
def test_every_activation_builds_and_is_not_linear(activation: Any) -> None:
    for network in (Mlp(widths=(8,), activation=activation), Conv(channels=(4,), hidden=8, activation=activation)):
        built = network.build((1, 4, 4), 6).double()
        x = torch.randn(5, 1, 4, 4, dtype=torch.float64)
        assert not torch.allclose(built(2 * x) - built(x), built(x) - built(0 * x))


def test_an_mlp_without_widths_is_linear() -> None:
    built = Mlp(widths=()).build((4,), 3)
    assert [type(layer) for layer in built.layers] == [Linear]


def test_a_convolution_refuses_more_sides_than_a_volume_has() -> None:
    with pytest.raises(SpecError, check=naming("event", (2, 3, 4, 5, 6))):
        Conv().build((2, 3, 4, 5, 6), 4)


@pytest.mark.parametrize("network", [Conv((4, 6), hidden=8), ResNet((4, 6), blocks=1, hidden=8)], ids=name)
def test_a_volume_of_depth_one_is_convolved_as_an_image_by_the_middle_of_each_kernel(network: Any) -> None:
    """Of a kernel over volumes, what lies before and behind a depth of one meets only padding."""
    for in_shape, out_shape, volumes in (((2, 5, 6), None, (2, 1, 5, 6)), ((3,), (2, 5, 6), (3,))):
        features = math.prod(out_shape or (7,))
        image = network.build(in_shape, features, out_shape).double()
        volume = network.build(volumes, features, None if out_shape is None else (2, 1, 5, 6)).double()
        saved = volume.state_dict()
        for key, weight in image.state_dict().items():
            if weight.dim() == 4:
                # Upwards, the one slice is repeated, and the copy behind it meets the last part of the kernel.
                saved[key][:, :, 1] = weight
                saved[key][:, :, 2] = 0
            else:
                saved[key] = weight
        volume.load_state_dict(saved)
        x = torch.randn(4, *in_shape, dtype=torch.float64)
        torch.testing.assert_close(volume(x.reshape(4, *volumes)), image(x), **ROUNDING)


@pytest.mark.parametrize("network", [Conv((4, 6), hidden=8), ResNet((4, 6), blocks=1, hidden=8)], ids=name)
def test_a_row_is_convolved_as_a_sequence_of_one_channel(network: Any) -> None:
    row, sequence = network.build((9,), 5), network.build((1, 9), 5)
    x = torch.randn(3, 9)
    torch.testing.assert_close(copied(sequence, row)(x), sequence(x[:, None]))
    (first, *_) = [part for part in row.modules() if isinstance(part, nn.Conv1d)]
    assert first.weight.shape == (4, 1, 3)


def test_the_bias_of_a_convolutional_decoder_is_one_for_each_pixel() -> None:
    image = (2, 5, 7)
    built = Conv(channels=(4,), hidden=8).build((3,), math.prod(image), image)
    nn.init.zeros_(built.stages[-1].convolution.weight)
    with torch.no_grad():
        built.output_bias.copy_(torch.arange(70.0))
    assert built(torch.randn(2, 3)).equal(torch.arange(70.0).expand(2, -1))


@pytest.mark.parametrize("prior", examples(Prior), ids=name)
def test_a_prior_keeps_to_its_contract(prior: Any) -> None:
    check_prior(prior)


@pytest.mark.parametrize("prior", examples(Prior), ids=name)
@pytest.mark.parametrize("size", [0, -1])
def test_a_prior_over_nothing_is_refused(prior: Any, size: int) -> None:
    with pytest.raises(SpecError, check=naming("size", size)):
        prior.build(size)


def test_a_flow_over_one_number_is_refused() -> None:
    with pytest.raises(SpecError, check=naming("size", 1)):
        Flow().build(1)


def test_the_standard_prior_has_the_normal_density_with_its_whole_constant() -> None:
    z = codes(4, latents=16)
    expected = -0.5 * z.square().sum(-1) - 8 * math.log(2 * math.pi)
    torch.testing.assert_close(StandardNormal().build(16).double()().log_prob(z), expected)


@every_likelihood
@every_network
@pytest.mark.parametrize("event", ONE_OF_EACH, ids=str)
def test_every_network_and_likelihood_make_a_model(
    network: Any, head: LikelihoodFamily, event: tuple[int, ...]
) -> None:
    latents = 3
    if head.kind == "autoregressive_columns" and len(event) > 1:
        pytest.skip("it is of the columns of a table")
    model = VAE(
        Conditional(network.build(event, 2 * latents), Gaussian()),
        StandardNormal().build(latents),
        Conditional(network.build((latents,), head.features(event), event), head, event_shape=event),
    ).double()
    x = model.generate(6, generator=new_generator(1))
    assert x.shape == (6, *event)
    seen = x.double()
    draw = model.draw(seen, samples=4, generator=new_generator(2))
    assert draw.log_w.shape == (4, 6)
    every_parameter_has_a_gradient(draw.log_w.sum(), model)
    noise = torch.randn(4, 6, latents, generator=new_generator(2), dtype=torch.float64)
    for i in range(6):
        alone = model.draw(seen[i : i + 1], samples=4, noise=(noise[:, i : i + 1],)).log_w
        torch.testing.assert_close(alone[:, 0], draw.log_w[:, i], **ROUNDING)
