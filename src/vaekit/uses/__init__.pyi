from .hidden import HiddenCells as HiddenCells
from .hidden import impute_hidden as impute_hidden
from .impute import Imputed as Imputed
from .impute import impute as impute
from .trained import Trained as Trained
