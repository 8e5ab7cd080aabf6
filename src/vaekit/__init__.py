"""vaekit: variational autoencoders as parts that compose.

The names that most programs need are here; the others are in namespaces, such as `vaekit.priors`. Both are loaded when
they are first used, so that `import vaekit` costs nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
