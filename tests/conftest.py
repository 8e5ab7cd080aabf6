"""What every test shares: shapes checked at run time, and guards of the state that vaekit promises to leave alone."""

import os

import pytest
from jaxtyping import install_import_hook

# Before anything of vaekit is imported: from here on its annotations, shapes included, are checked on every call.
install_import_hook("vaekit", "beartype.beartype")
