"""From weights to numbers with error bars. What trains and what is reported are never the same code.

Names load when first used: `results`, which only names the measures, needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
