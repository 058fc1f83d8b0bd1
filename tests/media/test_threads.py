"""A system that refuses threads costs speed, and no picture: one thread is always enough, or the file says why not."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.media.colours import write_colours
from tests.media.test_upright import _corners, _write

_WITHOUT_THREADS = """
import json, sys
from pathlib import Path
from reelseek.errors import LimitError
from reelseek.media.container import Limits, probe
from reelseek.media.decode import decode
from reelseek.media.guard import _limit_memory
from reelseek.media.picture import make_proxy, strip
from reelseek.media.streams import FrameStream, SoundStream
import threading
film, large, hdr, copy = map(Path, sys.argv[1:])
_limit_memory(2**31)
try:
    threading.Thread(target=print).start()
    print(json.dumps("threads"))
    sys.exit()
except RuntimeError:
    pass
counts = []
for threads in (1, 2):
    batches = []
    found = decode(film, {FrameStream(1, 48): [batches.append], SoundStream(): [lambda batch: None]}, threads=threads)
    counts.append((found.frames, found.packet_errors, sum(len(batch.seconds) for batch in batches)))
strip((film, [0.5, 1.5], 48))
make_proxy((large, copy))
try:
    decode(hdr, {FrameStream(1, 48): [lambda batch: None]})
    message = ""
except LimitError as error:
    message = str(error)
print(json.dumps([counts, probe(copy).duration, message]))
"""


def test_a_process_that_gets_no_threads_sees_every_frame(tmp_path: Path) -> None:
    if sys.platform != "linux" or resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
        pytest.skip("threads are refused by way of their stack's size, which cannot be raised here")
    film = write_colours(tmp_path / "film.ts")
    large = _write(tmp_path / "large.mp4", _corners(640, 480))  # x264 uses one thread for a small one
    hlg = {"pix_fmt": "yuv420p10le", "color_trc": 18, "colorspace": 9, "color_primaries": 9}
    hevc = {"codec": "libx265", "options": {"x265-params": "log-level=none"}}
    hdr = _write(tmp_path / "hdr.mp4", _corners(), **hevc, **hlg)
    script, copy = tmp_path / "script.py", tmp_path / "copy.mp4"
    script.write_text(_WITHOUT_THREADS)
    outcome = subprocess.run(
        ["bash", "-c", 'ulimit -s 67108864 && exec "$@"', "-", sys.executable, script, film, large, hdr, copy],
        capture_output=True,
        text=True,
        timeout=6000,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},  # numpy's own do not survive it
    )
    assert outcome.returncode == 0, outcome.stderr
    answer = json.loads(outcome.stdout.splitlines()[-1])
    if answer == "threads":
        pytest.skip("this system gives threads nevertheless")
    counts, duration, message = answer
    assert counts == [[40, 0, 4], [40, 0, 4]]
    assert duration == pytest.approx(2, abs=0.2)
    assert "refused a thread" in message
