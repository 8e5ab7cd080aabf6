"""`python -m vaekit`."""

from vaekit.apps.cli import main

main()
