"""A whole library as Parquet or Lance, for lakes and other tools, and back."""

from reelseek.library.export.lake import FORMATS
from reelseek.library.export.restore import import_library
from reelseek.library.export.write import ExportReport, export_library

__all__ = ["FORMATS", "ExportReport", "export_library", "import_library"]
