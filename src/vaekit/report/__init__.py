"""From run folders to pictures, tables and one HTML page. Names load when first used: training needs no matplotlib."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
