"""How the gradients of a step are computed fast: the only package that knows that steps are traced or compiled.

`selection` chooses an engine for a training. Both engines give the same sums and gradients:

- `autograd` runs the step as it stands, one operation after the other, and wraps it for several processes.
- `programs` traces the step once for each shape of batch (`recording`, `program`), chooses the fastest kernel of each
  matrix product, and may compile the program or capture it as a CUDA graph (`compiling`).
"""

from vaekit.training.engine.autograd import Autograd
from vaekit.training.engine.programs import Programs
from vaekit.training.engine.selection import build_engine, slowed_by_others

__all__ = ["Autograd", "Programs", "build_engine", "slowed_by_others"]
