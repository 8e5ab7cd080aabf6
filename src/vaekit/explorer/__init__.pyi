from .contents import Contents as Contents
from .contents import collect as collect
from .page import write_page as write_page
from .server import Explorer as Explorer
from .server import serve as serve
