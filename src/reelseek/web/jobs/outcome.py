"""What became of a command, in words: its result, or why it failed."""

import json
import signal
from collections.abc import Sequence
from typing import Any

from reelseek.web.jobs.made import linked_captions
from reelseek.web.jobs.queue import Job, JobState

__all__ = ["outcome"]

_MOST_RESULT_BYTES = 1_000_000


def outcome(
    job: Job, code: int, output: Sequence[str], messages: Sequence[str], *, cancelled: bool
) -> tuple[JobState, str | None, dict[str, Any]]:
    """State, error and result of a command that ended.

    Args:
        code: its exit status, below 0 the signal that ended it.
        output: lines of its standard output.
        messages: the last lines of its standard error.

    Example:
        outcome(job, 2, [], ["error: no such split"], cancelled=False) == ("failed", "no such split", {...})
    """
    result = _result(job, output)
    if code == 0:
        return "succeeded", None, result
    if cancelled:
        return "cancelled", "cancelled; what was finished stays, and a retry goes on from there", result
    errors = [line.removeprefix("error: ") for line in messages if line.startswith("error: ")]
    if errors:
        return "failed", errors[-1], result
    if code < 0:
        return "failed", f"{_signal_name(code)} ended it; {_signal_advice(code)}", result
    if code == 1:
        left_out = [line for line in messages if line.startswith(("failed: ", "left out: ", "damaged: "))]
        reasons = "; ".join((left_out or list(messages))[-5:])
        return "failed", f"the rest was done, but something failed: {reasons}", result
    return "failed", "; ".join(messages[-5:]) or f"it ended with status {code}", result


def _result(job: Job, output: Sequence[str]) -> dict[str, Any]:
    """The text that it wrote, and what it wrote as JSON."""
    documents = []
    if job.kind in ("evaluate", "caption"):
        for line in output:
            try:
                document = json.loads(line)
                documents.append(linked_captions(document) if job.kind == "caption" else document)
            except (ValueError, KeyError, TypeError):
                continue
    result: dict[str, Any] = {"output": "\n".join(output)[-20_000:]} if not documents else {"documents": documents}
    if len(json.dumps(result)) > _MOST_RESULT_BYTES:
        result = {"output": f"{len(documents)} documents are too large to be kept; run the command itself for them"}
    return result


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _signal_advice(code: int) -> str:
    if -code == signal.SIGKILL:
        return "the machine may have run out of memory: retry it when there is more, or with fewer experts"
    return "retry it, and look at its log if it happens again"
