"""What a trained model is for: functions of a trained run and of rows as they are stored.

Names load when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
