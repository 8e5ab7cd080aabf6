"""Where a public name lives that is not at the top level, without importing anything."""

import ast
from pathlib import Path

NAMESPACES = (
    "data",
    "errors",
    "evaluation",
    "gradients",
    "likelihoods",
    "networks",
    "objectives",
    "posteriors",
    "priors",
    "runs",
    "samplers",
    "sklearn",
    "testing",
    "training",
    "uses",
)


def homes(name: str) -> tuple[str, ...]:
    """The namespaces that have a public name: in `__all__` in their source, or in the stub that they load names by."""
    return tuple(space for space in NAMESPACES if name in _public(space))


def _public(namespace: str) -> tuple[str, ...]:
    above = Path(__file__).parent
    choices = (above / f"{namespace}.py", above / namespace / "__init__.pyi", above / namespace / "__init__.py")
    path = next(path for path in choices if path.exists())
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if path.suffix == ".pyi":
        return tuple(alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names)
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()
