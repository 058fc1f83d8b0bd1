"""Measures what `doctor FOLDER` falls back to where it could measure nothing in time: library/expert_costs.json.

    python benchmarks/packaged/expert_costs.py FOLDER      # of real clips with sound, a minute of video in all or more

Seconds are those of the processor, on one thread, so that a busy machine writes the same numbers as a quiet one. Run it
again where a default expert computes otherwise than before.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
time.perf_counter = time.process_time  # before the modules that time experts are loaded

from reelseek.experts import DEFAULT_EXPERTS  # noqa: E402
from reelseek.experts.extract import extract, prepare_worker  # noqa: E402
from reelseek.experts.sample import SAMPLE_CLIP  # noqa: E402
from reelseek.library.expert_costs import COSTS_FILE, calibrate  # noqa: E402
from reelseek.media.container import Limits  # noqa: E402


def main(folder: Path) -> None:
    specs = list(DEFAULT_EXPERTS)
    prepare_worker(specs, threads=1)
    extract(SAMPLE_CLIP, specs, Limits())
    start = time.process_time()
    seconds = spent = 0.0
    costs = dict.fromkeys([*specs, "decoding"], 0.0)
    calibrations = [calibrate(1.0, time.process_time)]
    for clip in sorted(folder.glob("*.mp4")):
        started = time.process_time()
        extracted = extract(clip, specs, Limits())
        spent += time.process_time() - started
        seconds += extracted.end_seconds
        for name, cost in extracted.seconds.items():
            costs[name] += cost
        calibrations.append(calibrate(1.0, time.process_time))
        print(f"{clip.name}: {spent:.1f} s for {seconds:.0f} s of video, {calibrations[-1]:.4f}", file=sys.stderr)
    costs["decoding"] = spent - sum(costs.values())
    rates = {name: round(cost / seconds, 4) for name, cost in costs.items()}
    calibration = round(sorted(calibrations)[len(calibrations) // 2], 4)
    measured = f"benchmarks/packaged/expert_costs.py, {seconds:.0f} s of video, {platform.machine()}"
    content = {"measured": measured, "costs": {"calibration": calibration, "start": round(start, 2), "experts": rates}}
    COSTS_FILE.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(COSTS_FILE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
