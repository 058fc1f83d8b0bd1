"""Jobs: one writer a library, progress, logs, cancelling, running again, paths, and a server that is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import TypeAdapter
from tests.web.conftest import Team

from reelseek.errors import LibraryError, UsageError
from reelseek.library import Library
from reelseek.web.jobs.outcome import outcome
from reelseek.web.jobs.process import CommandProcess, identity
from reelseek.web.jobs.queue import Job, JobQueue
from reelseek.web.jobs.requests import JobRequest
from reelseek.web.jobs.roots import Roots, outermost
from reelseek.web.jobs.service import Jobs
from reelseek.web.media import opaque_id
from reelseek.web.state import StateFolder

SECONDS = 300  # for hangs


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    opened = JobQueue(tmp_path / "jobs.db")
    yield opened
    opened.close()


def _wait(condition: Callable[[], object]) -> object:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if outcome := condition():
            return outcome
        time.sleep(0.05)
    raise AssertionError("it did not happen")


# The queue


def test_one_job_at_a_time_writes_to_a_library(queue: JobQueue) -> None:
    one, other = Path("/one"), Path("/other")
    first = queue.add("add", "one", one, {}, by="me")
    second = queue.add("index", "one", one, {}, by="me")
    third = queue.add("add", "other", other, {}, by="me")
    reading = queue.add("evaluate", "one", one, {}, by="me")
    assert [queue.claim().id for _ in range(3)] == [first.id, third.id, reading.id]
    assert queue.claim() is None
    queue.finish(first.id, "succeeded")
    assert queue.claim().id == second.id


def test_a_job_that_ran_when_the_server_died_waits_again_and_not_for_ever(queue: JobQueue) -> None:
    job = queue.add("add", "one", Path("/one"), {}, by="me")
    for attempt in (1, 2):
        assert queue.claim().attempts == attempt
        queue.requeue_interrupted()
        assert queue.get(job.id).state == "queued"
    queue.claim()
    queue.requeue_interrupted()
    ended = queue.get(job.id)
    assert (ended.state, ended.error) == ("failed", "the server ended 3 times while it ran; retry it when you know why")
    assert queue.retry(job.id).state == "queued"
    assert queue.claim().attempts == 4


def test_a_log_is_bounded_and_says_what_it_lost(queue: JobQueue) -> None:
    job = queue.add("add", "one", Path("/one"), {}, by="me")
    for start in range(0, 1500, 100):
        queue.add_lines(job.id, [("message", f"line {number}") for number in range(start, start + 100)])
        queue.set_progress(job.id, {"done": start, "total": 1500, "unit": "files", "text": "", "seconds_left": None})
    events = queue.events(job.id)
    assert events[0].content["line"] == "(500 earlier lines are no longer kept)"
    lines = [event.content["line"] for event in events[1:] if event.kind == "log"]
    assert lines == [f"line {number}" for number in range(500, 1500)]
    assert [event.content["done"] for event in events if event.kind == "progress"] == [1400]
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))
    assert [event.sequence for event in queue.events(job.id, sequences[-3])] == sequences[-2:]


def test_a_full_disk_is_said_and_nothing_is_half_written(queue: JobQueue) -> None:
    queue._database._connection.execute(
        f"PRAGMA max_page_count = {queue._database._connection.execute('PRAGMA page_count').fetchone()[0]}"
    )
    with pytest.raises(LibraryError, match="full"):
        queue.add("add", "one", Path("/one"), {"paths": ["x" * 100_000]}, by="me")
    assert queue.jobs() == []


# What became of a command


def _job(kind: str = "add") -> Job:
    return Job("0" * 16, kind, "one", Path("/one"), {}, "running", None, None, None, 0.0, 0.0, None, "me", 1)


@pytest.mark.parametrize(
    ("code", "messages", "cancelled", "state", "words"),
    [
        (0, ["a note"], False, "succeeded", None),
        (0, [], True, "succeeded", None),
        (130, [], True, "cancelled", "a retry goes on from there"),
        (1, ["error: another process is writing to /one"], False, "failed", "another process is writing"),
        (2, ["error: no such split"], False, "failed", "no such split"),
        (1, ["failed: a.mp4: damaged"], False, "failed", "the rest was done, but something failed: failed: a.mp4"),
        (-9, [], False, "failed", "SIGKILL ended it; the machine may have run out of memory"),
        (70, [], False, "failed", "it ended with status 70"),
    ],
)  # fmt: skip
def test_an_end_in_words(code: int, messages: list[str], cancelled: bool, state: str, words: str | None) -> None:
    ended, error, _ = outcome(_job(), code, [], messages, cancelled=cancelled)
    assert ended == state
    assert (error is None) if words is None else (words in error)


# Processes


def test_progress_comes_on_a_pipe_and_results_and_messages_apart(tmp_path: Path, archive: Path) -> None:
    process = CommandProcess(["info", "--json", "--", str(tmp_path / "none")])
    lines = list(process.lines(0.2))
    assert process.wait() == 1
    assert any("is not a library" in line.text for line in lines if line.stream == "message")
    assert list(process.output) == []


_SLEEPS = """
import sys, time
from reelseek.cli import main as cli
from reelseek.cli.show import bars
def slow(arguments):
    with bars() as progress:
        for step in range(1_000_000):
            progress("examining", step + 1, 1_000_000, "film.mp4")
            time.sleep(0.01)
    return 0
cli._run = slow
cli.main()
"""


@pytest.fixture
def slow_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command takes long, tells its progress, and ends at Ctrl-C as all do."""
    monkeypatch.setattr("reelseek.web.jobs.process.COMMAND", (sys.executable, "-c", _SLEEPS))


@pytest.mark.usefixtures("slow_command")
def test_a_cancelled_command_ends_as_at_ctrl_c() -> None:
    process = CommandProcess([])
    progress = next(line for line in process.lines(0.2) if line.stream == "progress").as_progress()
    assert progress == {"stage": "examining", "done": 1, "total": 1_000_000, "detail": "film.mp4"}
    process.cancel()
    messages = [line.text for line in process.lines(0.2) if line.stream == "message"]
    assert process.wait() == 130
    assert any("stopped; what was finished is kept" in text for text in messages)


_WAITS = """
import time
from pathlib import Path
import reelseek.cli.progress as pipes
from reelseek.cli import main as cli
pipes.GENTLE_SECONDS = pipes.FIRM_SECONDS = SECONDS
def wait(arguments):
    while True:
        try:
            pipes.pipe().write("examining", 1, 2)
            time.sleep(0.1)
        except KeyboardInterrupt:
            Path("INTERRUPTED").touch()
            if not DEAF:
                raise
cli._run = wait
cli.main()
"""


@pytest.mark.parametrize(("deaf", "seconds"), [(False, SECONDS), (True, 0.2)], ids=["at once", "by force"])
def test_a_command_ends_with_whoever_reads_its_progress(deaf: bool, seconds: float, tmp_path: Path) -> None:
    interrupted = tmp_path / "interrupted"
    command = _WAITS.replace("DEAF", str(deaf)).replace("SECONDS = SECONDS", f"SECONDS = {seconds}")
    command = command.replace("INTERRUPTED", str(interrupted))
    script = (
        "import os, time\n"
        "import reelseek.web.jobs.process as p\n"
        f"p.COMMAND = {(sys.executable, '-c', command)!r}\n"
        "process = p.CommandProcess([])\n"
        "next(line for line in process.lines(0.2) if line.stream == 'progress')\n"
        "print(process.identity, flush=True)\n"
        "time.sleep(600)\n"
    )
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with server:
        process = server.stdout.readline().strip()
        pid = int(process.partition(":")[0])
        assert identity(pid) == process
        assert not interrupted.exists()
        server.kill()
    _wait(lambda: identity(pid) != process)
    assert interrupted.exists()


@pytest.mark.usefixtures("slow_command")
def test_jobs_are_followed_cancelled_and_run_again(team: Team) -> None:
    header = team.token(["read", "write"])
    body = {"kind": "index", "library": "library", "arguments": {"action": "verify"}}
    added = team.client.post("/v1/jobs", json=body, headers=header)
    assert added.status_code == 202
    path = added.headers["location"]
    second = team.client.post("/v1/jobs", json=body, headers=header).json()["id"]
    _wait(lambda: team.client.get(path, headers=header).json()["progress"])
    running = team.client.get(path, headers=header).json()
    assert (running["state"], running["progress"]["unit"], running["attempts"]) == ("running", "files", 1)
    assert team.client.get(f"/v1/jobs/{second}", headers=header).json()["state"] == "queued", "one writer at a time"
    assert team.client.post(f"/v1/jobs/{second}/cancel", headers=header).json()["state"] == "cancelled"
    assert team.client.post(f"{path}/retry", headers=header).status_code == 409
    assert team.client.post(f"{path}/cancel", headers=header).status_code == 200
    ended = _wait(lambda: (job := team.client.get(path, headers=header).json())["ended"] and job)
    assert ended["state"] == "cancelled"
    assert "a retry goes on from there" in ended["error"]
    events = _events(team.client.get(f"{path}/events", headers=header).text)
    assert [kind for _, kind, _ in events][-1] == "end"
    assert {kind for _, kind, _ in events} == {"progress", "log", "end"}
    last = events[-2][0]
    again = _events(team.client.get(f"{path}/events", headers={**header, "Last-Event-ID": str(last)}).text)
    assert again == events[-1:]
    done = {**header, "Last-Event-ID": str(events[-1][0])}
    assert team.client.get(f"{path}/events", headers=done).status_code == 204
    assert team.client.post(f"{path}/retry", headers=header).json()["state"] == "queued"
    _wait(lambda: team.client.get(path, headers=header).json()["attempts"] == 2)
    team.client.post(f"{path}/cancel", headers=header)


def _events(text: str) -> list[tuple[int, str, dict[str, object]]]:
    """Server-sent events as (id, kind, content)."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            events.append((int(fields.get("id", 0)), fields["event"], json.loads(fields["data"])))
    return events


@pytest.mark.usefixtures("slow_command")
def test_a_stream_has_heartbeats_and_ends_with_the_token(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reelseek.web.v1.jobs._HEARTBEAT_SECONDS", 0.0)
    header = team.token(["read", "write"])
    body = {"kind": "index", "library": "library", "arguments": {"action": "verify"}}
    path = team.client.post("/v1/jobs", json=body, headers=header).headers["location"]
    accounts = team.services.identities.accounts

    def revoke() -> None:
        time.sleep(2.0)
        for token in accounts.tokens():
            accounts.remove_token(token.id)

    threading.Thread(target=revoke, daemon=True).start()
    text = team.client.get(f"{path}/events", headers=header).text  # returns, though the job goes on
    assert ": still here" in text
    assert "event: end" not in text
    assert team.services.jobs.queue.get(path.rpartition("/")[2]).state == "running"


@pytest.mark.usefixtures("slow_command")
def test_videos_are_added_and_removed_by_jobs(team: Team) -> None:
    header = team.token(["read", "write"])
    video = team.libraries["library"].videos()[0]
    opaque = opaque_id(video.id)
    removing = team.client.delete(f"/v1/videos/{opaque}?library=library", headers=header)
    assert (removing.status_code, removing.json()["kind"]) == (202, "remove")
    assert removing.json()["arguments"]["videos"] == [opaque]
    assert team.client.delete(f"/v1/videos/{'0' * 24}?library=library", headers=header).status_code == 404
    body = {"paths": [str(video.path.parent)]}
    adding = team.client.post("/v1/videos?library=library", json=body, headers=header)
    assert (adding.status_code, adding.json()["kind"]) == (202, "add")
    with Library.open(team.libraries["library"].path) as library:
        commands = team.services.jobs.commands
        jobs = {job.kind: commands.command(job, library) for _, job in team.services.jobs.queue.jobs()}
    assert jobs["remove"] == ["remove", "--", str(library.path), video.id]
    folder = os.path.realpath(video.path.parent)
    assert jobs["add"] == ["add", f"--within={folder}", "--", str(library.path), folder]


# Paths


@pytest.fixture
def films(tmp_path: Path, archive: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    (tmp_path / "secret").mkdir()
    for place in (folder / "a.mp4", tmp_path / "secret" / "b.mp4"):
        shutil.copy(next(archive.glob("*.mp4")), place)
    return folder


def test_paths_outside_of_the_roots_are_refused(start_team: Callable[..., Team], films: Path) -> None:
    team = start_team(roots=[films])
    header = team.token(["read", "write"])
    (films / "out").symlink_to(films.parent / "secret")
    (films / "table.csv").write_text(f"video,path\nb,{films.parent / 'secret' / 'b.mp4'}\n")
    secret = films.parent / "secret"

    def add(*paths: str, **more: str) -> httpx.Response:
        arguments = {"paths": [str(path) for path in paths], **more}
        body = {"kind": "add", "library": "library", "arguments": arguments}
        return team.client.post("/v1/jobs", json=body, headers=header)

    for path in (secret, f"{films}/../secret", films / "out", films / "out" / "b.mp4", "/", "/etc/passwd", "films",
                 "s3://bucket/films", "file:///etc/passwd", "http://127.0.0.1/x.mp4", f"{films}/none.mp4"):  # fmt: skip
        answer = add(str(path))
        assert answer.status_code in (400, 422), (path, answer.text)
    assert add(str(films), captions=str(secret / "b.mp4")).status_code == 400
    assert add("--experts=face").status_code == 400
    # A nonexistent file outside is answered like one that exists: nothing tells what lies there.
    texts = [add(str(secret / name)).json()["detail"].replace(name, "") for name in ("b.mp4", "none.mp4")]
    assert texts[0] == texts[1]
    watch = team.client.put("/v1/libraries/library/folders", json={"folders": [str(secret)]}, headers=header)
    assert watch.status_code == 400


def test_links_and_tables_that_lead_out_fail_when_they_are_read(films: Path, tmp_path: Path) -> None:
    (films / "link.mp4").symlink_to(films.parent / "secret" / "b.mp4")
    with Library.open(tmp_path / "made", create=True) as library:
        with pytest.raises(UsageError, match=r"link\.mp4"):
            library.add([films], within=[films])
        (films / "link.mp4").unlink()
        (films.parent / "secret" / "words.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nsecret\n")
        film = next(path for path in films.rglob("*.mp4"))
        subtitle = film.with_suffix(".srt")
        subtitle.symlink_to(films.parent / "secret" / "words.srt")
        with pytest.raises(UsageError, match=r"\.srt"):
            library.add([films], within=[films])
        subtitle.unlink()
        table = films / "table.csv"
        table.write_text(f"video,path\nb,{films.parent / 'secret' / 'b.mp4'}\n")
        with pytest.raises(UsageError, match="outside of the allowed folders"):
            library.add([table], within=[films])
        assert library.videos() == []


def test_the_folders_of_a_library_s_own_videos_are_allowed(library: Library, archive: Path, tmp_path: Path) -> None:
    roots = Roots()
    assert roots.allowed(library) == [Path(os.path.realpath(archive))]
    assert roots.check([str(archive)], roots.allowed(library)) == [Path(os.path.realpath(archive))]
    with pytest.raises(UsageError, match="--roots FOLDER"):
        roots.check([str(tmp_path)], roots.allowed(library))
    assert outermost([Path("/a/b"), Path("/a"), Path("/ab")]) == [Path("/a"), Path("/ab")]
    with pytest.raises(UsageError, match="no such folder"):
        Roots([tmp_path / "none"])


# Checks before a job waits


def test_training_is_checked_before_it_waits(team: Team) -> None:
    header = team.token(["read", "write"])

    def train(recipe: str, **more: object) -> httpx.Response:
        body = {"kind": "train", "library": "library", "arguments": {"recipe": recipe, "name": "mine", **more}}
        return team.client.post("/v1/jobs", json=body, headers=header)

    for recipe, words in (
        ("[model", "no TOML"), ('[model]\nsystem = "none"', "systems that can be trained are"),
        ('[model]\nsystem = "mmt"\n[train]\nepochs = -1', "epochs"),
        ('[model]\nsystem = "mmt"\n[train]\nstart = "/etc"', "a path on the server"),
    ):  # fmt: skip
        answer = train(recipe)
        assert answer.status_code in (400, 422), answer.text
        assert words in answer.json()["detail"], answer.text
    assert train('[model]\nsystem = "mmt"', name="../x").status_code == 422
    assert train('[model]\nsystem = "mmt"', set=["train.epochs=no"]).status_code in (400, 422)


def test_jobs_that_cannot_succeed_are_refused(team: Team) -> None:
    header = team.token(["read", "write"])
    video = opaque_id(team.libraries["library"].videos()[0].id)
    for kind, arguments, status in (
        ("remove", {"videos": ["0" * 24]}, 400), ("remove", {}, 422), ("remove", {"expert": "none"}, 400),
        ("remove", {"videos": [video], "expert": "object"}, 422), ("evaluate", {"split": "none"}, 400),
        ("scan", {"test": "none", "train": "none"}, 400), ("index", {"model": "none"}, 400),
        ("index", {"model": "../../etc"}, 422), ("caption", {"videos": [video], "model": "none"}, 400),
        ("add", {}, 422), ("add", {"paths": ["a\0b"]}, 422), ("none", {}, 422), ("index", {"unknown": 1}, 422),
    ):  # fmt: skip
        body = {"kind": kind, "library": "library", "arguments": arguments}
        answer = team.client.post("/v1/jobs", json=body, headers=header)
        assert answer.status_code in (status, 422), (kind, arguments, answer.text)
    assert team.client.get("/v1/jobs", headers=header).json()["data"] == []


# Whole


def test_a_folder_that_vanished_and_a_second_writer_are_failures_in_words(films: Path, tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.claim()
    with Library.open(tmp_path / "made", create=True) as library:
        jobs = Jobs(folder, Roots([films]))
        vanished = jobs.submit("add", library, "made", {"paths": [str(films)]}, by="me")
        shutil.rmtree(films)
        with library.writing():
            second = jobs.queue.add("index", "made", library.path, {"action": "build", "model": "concepts"}, by="me")
            jobs.start({library.path: "made"})
            reasons = [_wait(lambda row=row: jobs.queue.get(row.id).error) for row in (vanished, second)]
        assert jobs.queue.get(second.id).state == "failed"
        jobs.close()
        folder.close()
    assert "no such file or folder; it may have been moved or unmounted" in reasons[0]
    assert "another process is writing" in reasons[1]


@pytest.mark.long
def test_a_killed_server_goes_on_with_the_job(films: Path, tmp_path: Path) -> None:
    """The server is ended by kill -9 in the middle of an ingest; the next one ends up with the same library."""
    library, state = tmp_path / "made", tmp_path / "state"
    for number in range(3):
        shutil.copy(films / "a.mp4", films / f"b{number}.mp4")
        with (films / f"b{number}.mp4").open("ab") as file:
            file.write(bytes(number + 1))  # other bytes, so that each is read by itself
    with Library.open(library, create=True) as opened:
        folder = StateFolder(state)
        jobs = Jobs(folder, Roots([films]), runs=False)
        job = jobs.submit("add", opened, "made", {"paths": [str(films)], "experts": ["object"]}, by="me")
        jobs.close()
        folder.close()
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from reelseek.web.jobs.roots import Roots\nfrom reelseek.web.jobs.service import Jobs\n"
        "from reelseek.web.state import StateFolder\n"
        "folder = StateFolder(Path(sys.argv[1])); assert folder.claim()\n"
        "jobs = Jobs(folder, Roots([Path(sys.argv[2])]))\n"
        "jobs.start({Path(sys.argv[3]): 'made'})\n"
        "while not jobs.queue.get(sys.argv[4]).is_over: time.sleep(0.1)\n"
        "job = jobs.queue.get(sys.argv[4]); print(job.state, job.attempts, job.error); jobs.close()\n"
    )
    command = [sys.executable, "-c", script, str(state), str(films), str(library), job.id]
    queue = JobQueue(state / "jobs.db")
    try:
        with subprocess.Popen(command) as first:
            _wait(lambda: (queue.get(job.id).progress or {}).get("text", "").startswith("extracting"))
            process = queue.get(job.id).process
            first.send_signal(signal.SIGKILL)
        assert queue.get(job.id).state == "running"
        assert process is not None
        second = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        assert second.stdout.split()[:2] == ["succeeded", "2"], second.stdout + second.stderr
        lines = [event.content.get("line") for event in queue.events(job.id)]
        assert "the server ended while this ran; it goes on from what was finished" in lines
    finally:
        queue.close()
    with Library.open(library) as opened:
        assert len(opened.videos()) == 4
        assert opened.verify() == []
        assert len(opened.track_rows("object")) == 4


_RECIPE = """
[model]
system = "mee"
[train]
epochs = 1
batch = 16
"""


@pytest.mark.long
def test_jobs_say_what_they_made(library_path: Path, tmp_path: Path) -> None:
    """Kinds that take captions, on films that have some."""
    copy = shutil.copytree(library_path, tmp_path / "films")
    folder = StateFolder(tmp_path / "state")
    assert folder.claim()
    with Library.open(copy) as library:
        jobs = Jobs(folder, Roots())
        videos = {opaque_id(video.id): video.id for video in library.videos()}
        (opaque, name), *_ = videos.items()
        identifiers = []
        for kind, arguments in (
            ("train", {"recipe": _RECIPE, "name": "mine"}), ("evaluate", {"split": "test"}),
            ("scan", {"test": "test", "train": "val", "expert": "object"}), ("caption", {"videos": [opaque]}),
        ):  # fmt: skip
            body = TypeAdapter(JobRequest).validate_python({"kind": kind, "arguments": arguments})
            identifiers.append(jobs.submit(kind, library, "films", body.arguments.model_dump(), by="me").id)
        jobs.start({library.path: "films"})
        ended = [_wait(lambda id=id: (job := jobs.queue.get(id)).is_over and job) for id in identifiers]
        assert [(job.state, job.error) for job in ended] == [("succeeded", None)] * 4
        trained, evaluated, scanned, captioned = [job.result for job in ended]
        units = {(jobs.queue.get(id).progress or {}).get("unit") for id in identifiers}
        jobs.close()
        folder.close()
    assert trained["model"] == "mine"
    assert trained["validation"]["split"] == "val"
    assert 0 <= evaluated["documents"][0]["text_to_video"]["recall_at_1"] <= 1
    assert scanned["pairs"] >= 1
    assert all(videos[pair["test_id"]] == pair["test"] for pair in scanned["best"])
    (captions,) = captioned["documents"]
    assert (captions["id"], captions["video"], bool(captions["lines"])) == (opaque, name, True)
    assert {"epochs", "pairs", "videos"} <= units
