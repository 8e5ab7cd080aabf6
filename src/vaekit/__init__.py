"""vaekit: variational autoencoders as parts that compose.

The names that most programs need are here; the others are in namespaces, such as `vaekit.priors`. Both are loaded when
they are first used, so that `import vaekit` costs nothing.
"""

import lazy_loader as _lazy_loader

__version__ = "0.1.0"

_load, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _load(name)
    except AttributeError:
        if name in __all__ or name.startswith("_"):
            raise
        from vaekit.public_names import homes

        found = " or ".join(f"vaekit.{home}.{name}" for home in homes(name))
        hint = f": it is {found}" if found else ""
        raise AttributeError(f"module 'vaekit' has no attribute {name!r}{hint}", name=name) from None
