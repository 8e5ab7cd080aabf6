"""Parts that do not fit each other or their input, explained with the part, its input and a fix."""

import inspect
import re

from torch import Tensor, nn
from torch.distributions import Distribution

_DTYPES = re.compile(r"have the same dtype|Input type .* and (bias|weight) type|expected scalar type")
_SHAPES = re.compile(
    r"shapes cannot be multiplied|size mismatch|is invalid for input of size|must match the size of tensor|"
    r"Sizes of tensors must match|don't multiply up to the size|to have \d+ channels, but got|"
    r"Expected \dD .* input to conv|must match except in dimension"
)


def check_module(part: object, role: str, build: str) -> None:
    """Refuse a part of a model that is no torch module, and say what to write.

    Args:
        part: What was given.
        role: Its name, for the message.
        build: The arguments of `build`, where the part is a spec.

    Raises:
        TypeError: It is no module.
    """
    if isinstance(part, nn.Module):
        return
    if isinstance(part, type):
        made = f"{part.__name__}().build({build})" if hasattr(part, "build") else f"{part.__name__}(...)"
        raise TypeError(f"{role} is the class {part.__name__}: give a module that is made, as {made}")
    if callable(getattr(part, "build", None)):
        name = type(part).__name__
        raise TypeError(f"{role} is a {name} that is not built: call .build({build}) of it, as {name}().build({build})")
    if isinstance(part, Distribution):
        raise TypeError(
            f"{role} is a torch distribution, {type(part).__name__}: give a torch.nn.Module whose forward returns it"
            + (", or a prior of vaekit, as StandardNormal().build(size)" if role == "prior" else "")
        )
    raise TypeError(f"{role} is a {type(part).__name__}: give a torch.nn.Module")


def refuse_input(error: Exception, role: str, inputs: tuple[Tensor, ...]) -> None:
    """Explain an error of torch that is about the shape or the dtype of a part's input; let others be.

    Raises:
        ValueError: It is about that.
    """
    refuse_dtype(error, inputs)
    if isinstance(error, RuntimeError) and inputs and _SHAPES.search(str(error)):
        raise ValueError(
            f"the {role} does not take an input of shape {tuple(inputs[0].shape)} ({_first_line(error)}): "
            + (
                "its network must be built for z of the size that posterior and prior have"
                if role == "likelihood"
                else "give rows of the shape that its network is built for"
            )
        ) from error


def refuse_dtype(error: Exception, inputs: tuple[Tensor, ...]) -> None:
    """Explain an error of torch that is about the dtype of a network's input; let others be.

    Raises:
        ValueError: It is about that.
    """
    if not (isinstance(error, RuntimeError) and inputs and _DTYPES.search(str(error))):
        return
    x = inputs[0]
    dtype = str(x.dtype).removeprefix("torch.")
    if x.is_floating_point():
        raise ValueError(f"the input is {dtype}, and the network's weights are not: {_first_line(error)}") from error
    largest = max(1, int(x.max())) if type(x) is Tensor and x.numel() and x.device.type != "meta" else 1
    raise ValueError(
        f"x is {dtype}, and the network takes floats: give Conditional a transform=Rescale(0, {largest}), or data that "
        "is float, as x.float()"
    ) from error


def refuse_context(error: Exception, module: nn.Module, role: str, args: tuple[Tensor, ...], has_context: bool) -> None:
    """Explain the error of a part that is called with a context and takes none, or the other way round.

    Raises:
        TypeError: It is that.
    """
    if not isinstance(error, TypeError):
        return
    try:
        inspect.signature(module.forward).bind(*args)
    except TypeError as misfit:
        name = type(module).__name__
        if has_context:
            raise TypeError(
                f"the {role}, {name}, takes no context, and one was given: leave context= out, or write "
                f"its forward with a context as the last argument"
            ) from error
        raise TypeError(
            f"the {role}, {name}, cannot be called with its input alone ({misfit}): give context=, if it needs that"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
