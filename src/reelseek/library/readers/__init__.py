"""Files of other projects and of published datasets, read into a library."""

from reelseek.library.readers.annotations import ANNOTATIONS, Annotations, read_annotations
from reelseek.library.readers.features import FEATURES, read_feature_files
from reelseek.library.readers.pickles import read_pickle

__all__ = ["ANNOTATIONS", "FEATURES", "Annotations", "read_annotations", "read_feature_files", "read_pickle"]
