"""OpenCV, of which two builds write over each other: the one with windows needs libGL, which a server lacks."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from reelseek.errors import ExpertUnavailable

__all__ = ["import_opencv", "require_opencv"]

_WITH_WINDOWS = ("opencv-python", "opencv-contrib-python")

_INSTALL = (
    "pip uninstall opencv-python opencv-contrib-python && "
    "pip install --force-reinstall --no-deps opencv-python-headless"
)


def require_opencv(expert: str) -> None:
    """Raise what `import_opencv` would; OpenCV is imported only if the build with windows was installed too."""
    if find_spec("cv2") is None or any(map(_is_installed, _WITH_WINDOWS)):
        import_opencv(expert)


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def import_opencv(expert: str) -> Any:
    """Import `cv2`.

    Args:
        expert: that needs it, for the error.

    Raises:
        ExpertUnavailable: it is not installed, or is the build with windows on a machine without them.
    """
    try:
        import cv2
    except ModuleNotFoundError:
        raise ExpertUnavailable(f"{expert} needs OpenCV; install it with: pip install opencv-python-headless") from None
    except ImportError as error:
        raise ExpertUnavailable(
            f"{expert} cannot load OpenCV ({error}); another package laid the build with windows over the one "
            f"without; mend it with: {_INSTALL}"
        ) from error
    return cv2
