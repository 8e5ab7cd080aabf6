from .onnx import TOLERANCE as TOLERANCE
from .onnx import Exported as Exported
from .onnx import export_onnx as export_onnx
from .stored import StoredDecoder as StoredDecoder
from .stored import StoredEncoder as StoredEncoder
