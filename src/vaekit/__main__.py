"""`python -m vaekit`."""

from vaekit.apps.main import main

main()
