"""The explorer: a page in the browser that moves through the latent space of a run.

`collect` gathers what it shows; `write_page` puts all of it into one file, with the model as ONNX; `serve` gives the
same page on this machine, with the model in torch. The page itself is built from `front/` into `assets/`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
