"""One OpenCV: what is said where another package laid the build with windows over the headless one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reelseek.errors import ExpertUnavailable
from reelseek.experts import ocr

_CALL = """
from reelseek.errors import ExpertUnavailable
from reelseek.experts import load_expert
for name in ("motion", "ocr"):
    try:
        load_expert(name)
    except ExpertUnavailable as error:
        print(error)
"""


def test_a_build_that_needs_windows_is_named_with_its_remedy(tmp_path: Path) -> None:
    broken = tmp_path / "cv2"
    broken.mkdir()
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    (broken / "__init__.py").write_text(f"raise ImportError({reason!r})\n")
    metadata = tmp_path / "opencv_python-4.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.0\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", _CALL],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["motion", "ocr"], done.stderr
    for line in lines:
        assert "libGL.so.1" in line
        assert "pip uninstall opencv-python" in line
        assert "--no-deps opencv-python-headless" in line


def test_another_reader_than_the_recorded_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reelseek.experts.ocr.version", lambda name: "9.9.9")
    with pytest.raises(ExpertUnavailable, match=r"9\.9\.9 is installed.*--no-deps rapidocr-onnxruntime==1\.4\.4"):
        ocr.ocr()
