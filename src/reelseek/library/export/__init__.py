"""A whole library as Parquet or Lance, for lakes, and back; its captions and videos in the forms of other tools."""

from reelseek.library.export.annotations import ANNOTATIONS, export_annotations
from reelseek.library.export.lake import FORMATS
from reelseek.library.export.restore import import_library
from reelseek.library.export.write import ExportReport, export_library

__all__ = ["ANNOTATIONS", "FORMATS", "ExportReport", "export_annotations", "export_library", "import_library"]
