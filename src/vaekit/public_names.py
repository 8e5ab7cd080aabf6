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
    "testing",
    "training",
)


def homes(name: str) -> tuple[str, ...]:
    """The namespaces that have a public name, as their `__all__` says in their source."""
    return tuple(space for space in NAMESPACES if name in _public(space))


def _public(namespace: str) -> tuple[str, ...]:
    above = Path(__file__).parent
    path = above / f"{namespace}.py"
    source = (path if path.exists() else above / namespace / "__init__.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()
