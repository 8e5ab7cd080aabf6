"""`python -m vaekit`, and so `torchrun -m vaekit`."""

from vaekit.cli.main import main

main()
