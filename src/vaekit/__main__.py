"""`python -m vaekit`, and so `torchrun -m vaekit`."""

from vaekit.apps.main import main

main()
