"""OpenCV, of which two builds write over each other: the one with windows needs libGL, which a server lacks."""

from typing import Any

from reelseek.errors import ExpertUnavailable

__all__ = ["import_opencv"]

_INSTALL = (
    "pip uninstall opencv-python opencv-contrib-python && "
    "pip install --force-reinstall --no-deps opencv-python-headless"
)


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
