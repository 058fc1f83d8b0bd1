"""Written by `reelseek.client.generate` from the OpenAPI document; not by hand."""

from collections.abc import AsyncIterator, Iterator
from typing import Literal

from reelseek.client.schema import (
    AccountJSON,
    AccountList,
    AddArguments,
    AddJob,
    AgreementList,
    AuditPage,
    CaptionJob,
    CaptionList,
    CollectionJSON,
    CollectionList,
    Counts,
    CreatedToken,
    Curve,
    EvaluateJob,
    IndexJob,
    JobJSON,
    JobList,
    JudgedBelow,
    LibraryJSON,
    LibraryList,
    ModelList,
    NewMoment,
    PairList,
    QueueAnswer,
    RemoveJob,
    ReportJSON,
    ReportList,
    ReviewJSON,
    ReviewList,
    ScanJob,
    SearchAnswer,
    SessionJSON,
    SharedCollection,
    ShareJSON,
    StepsAnswer,
    TagList,
    ThenRequest,
    TokenList,
    TrainJob,
    Undone,
    Upload,
    Video,
    VideoList,
    VideoTags,
    WatchedJSON,
)
from reelseek.client.transport import AsyncTransport, Body, Event, Operation, SyncTransport

__all__ = ["OPERATIONS", "AsyncOperations", "SyncOperations"]

OPERATIONS = {
    "get_health": Operation("GET", "/healthz", "json"),
    "get_metrics": Operation("GET", "/metrics", "text"),
    "get_readiness": Operation("GET", "/readyz", "json"),
    "search": Operation("POST", "/v1/search", "json"),
    "list_videos": Operation("GET", "/v1/videos", "json"),
    "add_videos": Operation("POST", "/v1/videos", "json"),
    "get_video": Operation("GET", "/v1/videos/{id}", "json"),
    "remove_video": Operation("DELETE", "/v1/videos/{id}", "json"),
    "get_captions": Operation("GET", "/v1/videos/{id}/captions", "json"),
    "list_tags": Operation("GET", "/v1/tags", "json"),
    "add_tags": Operation("POST", "/v1/videos/{id}/tags", "json"),
    "remove_tags": Operation("DELETE", "/v1/videos/{id}/tags", "json"),
    "get_curve": Operation("GET", "/v1/videos/{id}/curve", "json"),
    "place_steps": Operation("POST", "/v1/videos/{id}/steps", "json"),
    "get_thumbnail": Operation("GET", "/v1/videos/{id}/thumbnail", "bytes"),
    "get_strip": Operation("GET", "/v1/videos/{id}/strip", "bytes"),
    "get_media": Operation("GET", "/v1/videos/{id}/media", "bytes"),
    "upload": Operation("POST", "/v1/uploads", "json"),
    "list_models": Operation("GET", "/v1/models", "json"),
    "add_job": Operation("POST", "/v1/jobs", "json"),
    "list_jobs": Operation("GET", "/v1/jobs", "json"),
    "get_job": Operation("GET", "/v1/jobs/{id}", "json"),
    "cancel_job": Operation("POST", "/v1/jobs/{id}/cancel", "json"),
    "retry_job": Operation("POST", "/v1/jobs/{id}/retry", "json"),
    "follow_job": Operation("GET", "/v1/jobs/{id}/events", "events"),
    "list_libraries": Operation("GET", "/v1/libraries", "json"),
    "begin_library": Operation("POST", "/v1/libraries", "json"),
    "get_library": Operation("GET", "/v1/libraries/{name}", "json"),
    "watch_folders": Operation("PUT", "/v1/libraries/{name}/folders", "json"),
    "list_collections": Operation("GET", "/v1/collections", "json"),
    "add_collection": Operation("POST", "/v1/collections", "json"),
    "get_collection": Operation("GET", "/v1/collections/{id}", "json"),
    "change_collection": Operation("PATCH", "/v1/collections/{id}", "json"),
    "remove_collection": Operation("DELETE", "/v1/collections/{id}", "nothing"),
    "keep_moments": Operation("POST", "/v1/collections/{id}/moments", "json"),
    "drop_moments": Operation("DELETE", "/v1/collections/{id}/moments", "json"),
    "share_collection": Operation("POST", "/v1/collections/{id}/share", "json"),
    "unshare_collection": Operation("DELETE", "/v1/collections/{id}/share", "nothing"),
    "export_collection": Operation("GET", "/v1/collections/{id}/export", "bytes"),
    "get_shared": Operation("GET", "/v1/shared/{secret}", "json"),
    "get_shared_thumbnail": Operation("GET", "/v1/shared/{secret}/moments/{number}/thumbnail", "bytes"),
    "get_shared_media": Operation("GET", "/v1/shared/{secret}/moments/{number}/media", "bytes"),
    "get_session": Operation("GET", "/v1/session", "json"),
    "sign_in": Operation("POST", "/v1/session", "json"),
    "sign_out": Operation("DELETE", "/v1/session", "nothing"),
    "list_accounts": Operation("GET", "/v1/accounts", "json"),
    "add_account": Operation("POST", "/v1/accounts", "json"),
    "change_account": Operation("PATCH", "/v1/accounts/{name}", "json"),
    "remove_account": Operation("DELETE", "/v1/accounts/{name}", "nothing"),
    "list_tokens": Operation("GET", "/v1/tokens", "json"),
    "add_token": Operation("POST", "/v1/tokens", "json"),
    "remove_token": Operation("DELETE", "/v1/tokens/{id}", "nothing"),
    "read_audit": Operation("GET", "/v1/audit", "json"),
    "list_reviews": Operation("GET", "/v1/reviews", "json"),
    "get_review": Operation("GET", "/v1/reviews/{id}", "json"),
    "change_review": Operation("PATCH", "/v1/reviews/{id}", "json"),
    "list_pairs": Operation("GET", "/v1/reviews/{id}/pairs", "json"),
    "get_agreement": Operation("GET", "/v1/reviews/{id}/agreement", "json"),
    "next_pairs": Operation("POST", "/v1/reviews/{id}/queue", "json"),
    "renew_leases": Operation("POST", "/v1/reviews/{id}/leases", "json"),
    "leave_review": Operation("POST", "/v1/reviews/{id}/leave", "json"),
    "judge_pairs": Operation("POST", "/v1/reviews/{id}/verdicts", "json"),
    "judge_pairs_below": Operation("POST", "/v1/reviews/{id}/below", "json"),
    "undo_verdict": Operation("POST", "/v1/reviews/{id}/undo", "json"),
    "list_reports": Operation("GET", "/v1/reports", "json"),
    "get_report": Operation("GET", "/v1/reports/{id}", "json"),
    "get_report_file": Operation("GET", "/v1/reports/{id}/files/{name}", "bytes"),
}


class SyncOperations:
    """A method for each operation of the interface."""

    _transport: SyncTransport

    def get_health(self) -> dict[str, str]:
        """Whether the server answers at all."""
        return self._transport.call(OPERATIONS["get_health"], {}, {}, None)

    def get_metrics(self) -> str:
        """Counters of requests, searches and libraries for Prometheus."""
        return self._transport.call(OPERATIONS["get_metrics"], {}, {}, None)

    def get_readiness(self) -> dict[str, str]:
        """Whether the server can answer searches: every library can be read."""
        return self._transport.call(OPERATIONS["get_readiness"], {}, {}, None)

    def search(
        self,
        *,
        library: str | None = None,
        query: str | None = None,
        image: str | None = None,
        clip: str | None = None,
        moment: str | None = None,
        like: list[str] | None = None,
        unlike: list[str] | None = None,
        then: ThenRequest | None = None,
        model: str | None = None,
        sources: list[str] | None = None,
        weights: dict[str, float] | None = None,
        without: list[str] | None = None,
        filter: str | None = None,
        group_by: Literal["moment", "video"] | None = None,
        limit: int | None = None,
        page_token: str | None = None,
        explain: bool | None = None,
    ) -> SearchAnswer:
        """Find moments by words, by examples, or by both.

        Args:
            library: which library; may be left out where there is one
            query: words, `-without`, `word^2`, `"must occur"`, and filters such as `before:2020`
            image: an upload of a picture to look like
            clip: an upload of a video to be like
            moment: a moment to be like, as a hit names it
            like: moments or uploads to be like
            unlike: moments or uploads to be unlike
            model: a searchable one of GET /v1/models; null is the one that the server was started with
            sources: modalities or experts that alone shall count
            weights: factors for modalities or experts; 0 leaves one out
            without: modalities or experts that shall not count
            filter: filters alone, such as `folder:holiday has:speech`
            group_by: `video`: only the best moment of each video
            page_token: `page.next_token` of the answer before, with the same request otherwise
            explain: false leaves `why` empty
        """
        return self._transport.call(
            OPERATIONS["search"],
            {},
            {},
            Body(
                {
                    "library": library,
                    "query": query,
                    "image": image,
                    "clip": clip,
                    "moment": moment,
                    "like": like,
                    "unlike": unlike,
                    "then": then,
                    "model": model,
                    "sources": sources,
                    "weights": weights,
                    "without": without,
                    "filter": filter,
                    "group_by": group_by,
                    "limit": limit,
                    "page_token": page_token,
                    "explain": explain,
                }
            ),
        )

    def list_videos(
        self,
        *,
        library: str | None = None,
        filter: str | None = None,
        failed: bool | None = None,
        limit: int | None = None,
        page_token: str | None = None,
    ) -> VideoList:
        """List videos in order of their names.

        Args:
            library: which library; may be left out where there is one
            filter: filters, as in a search
            failed: only videos of which something could not be read or extracted
            page_token: `page.next_token` of the part before
        """
        return self._transport.call(
            OPERATIONS["list_videos"],
            {},
            {"library": library, "filter": filter, "failed": failed, "limit": limit, "page_token": page_token},
            None,
        )

    def add_videos(
        self,
        *,
        library: str | None = None,
        paths: list[str] | None = None,
        captions: str | None = None,
        experts: list[str] | None = None,
        preset: Literal["offline", "standard", "best"] | None = None,
        retry_failed: bool | None = None,
        device: str | None = None,
    ) -> JobJSON:
        """Add what lies at some paths of the server: the same as a job of the kind `add`.

        Args:
            library: which library; may be left out where there is one
            retry_failed: try again what failed before; without paths all of it
        """
        return self._transport.call(
            OPERATIONS["add_videos"],
            {},
            {"library": library},
            Body(
                {
                    "paths": paths,
                    "captions": captions,
                    "experts": experts,
                    "preset": preset,
                    "retry_failed": retry_failed,
                    "device": device,
                }
            ),
        )

    def get_video(self, id: str, *, library: str | None = None) -> Video:
        """One video: what it is, what was extracted from it, and what went wrong.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["get_video"], {"id": id}, {"library": library}, None)

    def remove_video(self, id: str, *, library: str | None = None) -> JobJSON:
        """Forget a video and all that was derived from it: the same as a job of the kind `remove`; its file stays.

        Args:
            id: id of the video, as a hit names it
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["remove_video"], {"id": id}, {"library": library}, None)

    def get_captions(self, id: str, *, library: str | None = None) -> CaptionList:
        """The captions of a video.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["get_captions"], {"id": id}, {"library": library}, None)

    def list_tags(self, *, library: str | None = None) -> TagList:
        """The tags of a library, which `tag:NAME` in a filter selects by.

        Args:
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["list_tags"], {}, {"library": library}, None)

    def add_tags(
        self,
        id: str,
        *,
        tags: list[str],
        library: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> VideoTags:
        """Put tags on a video, or on a moment of it; one that it has already stays.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return self._transport.call(
            OPERATIONS["add_tags"], {"id": id}, {"library": library}, Body({"tags": tags, "start": start, "end": end})
        )

    def remove_tags(
        self,
        id: str,
        *,
        tags: list[str],
        library: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> VideoTags:
        """Take tags off a video, or off a moment of it, all or none.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return self._transport.call(
            OPERATIONS["remove_tags"],
            {"id": id},
            {"library": library},
            Body({"tags": tags, "start": start, "end": end}),
        )

    def get_curve(
        self, id: str, *, q: str, without: list[str] | None = None, library: str | None = None, model: str | None = None
    ) -> Curve:
        """How near each second of a video is to a query, and where that peaks.

        Args:
            id: id of the video, as hits and lists name it
            q: what to look for, as in a search
            without: modalities or experts that shall not count
            library: which library; may be left out where there is one
            model: as in a search
        """
        return self._transport.call(
            OPERATIONS["get_curve"], {"id": id}, {"q": q, "without": without, "library": library, "model": model}, None
        )

    def place_steps(
        self,
        id: str,
        *,
        steps: list[str],
        library: str | None = None,
        ordered: bool | None = None,
        missing: bool | None = None,
        model: str | None = None,
    ) -> StepsAnswer:
        """Assign one second of a video to each step of a task, so that the sum of their similarities is maximal.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
            ordered: false: they may happen in any order
            missing: true: they may happen nowhere
            model: as in a search
        """
        return self._transport.call(
            OPERATIONS["place_steps"],
            {"id": id},
            {"library": library},
            Body({"steps": steps, "ordered": ordered, "missing": missing, "model": model}),
        )

    def get_thumbnail(self, id: str, *, at: float | None = None, library: str | None = None) -> bytes:
        """The stored picture nearest to a time.

        Args:
            id: id of the video, as hits and lists name it
            at: seconds
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["get_thumbnail"], {"id": id}, {"at": at, "library": library}, None)

    def get_strip(
        self,
        id: str,
        *,
        start: float | None = None,
        end: float | None = None,
        frames: int | None = None,
        height: int | None = None,
        library: str | None = None,
    ) -> bytes:
        """Frames at even distances from a span of a video, side by side in one picture.

        Args:
            id: id of the video, as hits and lists name it
            start: seconds
            end: null: the video's end
            frames: how many frames stand side by side
            height: of the picture in pixels
            library: which library; may be left out where there is one
        """
        return self._transport.call(
            OPERATIONS["get_strip"],
            {"id": id},
            {"start": start, "end": end, "frames": frames, "height": height, "library": library},
            None,
        )

    def get_media(self, id: str, *, library: str | None = None) -> bytes:
        """The video as a file that browsers play, whole or in ranges of bytes.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["get_media"], {"id": id}, {"library": library}, None)

    def upload(self, *, content: bytes, content_type: str) -> Upload:
        """Send the bytes of a picture or of a clip, which searches may name as `image`, `clip`, `like` or `unlike`.

        Args:
            content: the bytes of the file
            content_type: their type, such as image/jpeg
        """
        return self._transport.call(OPERATIONS["upload"], {}, {}, Body(content=content, content_type=content_type))

    def list_models(self) -> ModelList:
        """The models that search the libraries, with what they compare, and those that jobs trained."""
        return self._transport.call(OPERATIONS["list_models"], {}, {}, None)

    def add_job(self, body: AddJob | RemoveJob | IndexJob | ScanJob | CaptionJob | TrainJob | EvaluateJob) -> JobJSON:
        """Check a job and put it into the queue.

        Args:
            body: one of these kinds
        """
        return self._transport.call(OPERATIONS["add_job"], {}, {}, Body(body))

    def list_jobs(
        self,
        *,
        library: str | None = None,
        state: Literal["queued", "running", "succeeded", "failed", "cancelled"] | None = None,
        kind: Literal["add", "remove", "index", "scan", "caption", "train", "evaluate"] | None = None,
        limit: int | None = None,
        page_token: str | None = None,
    ) -> JobList:
        """Jobs on libraries that you may see, newest first."""
        return self._transport.call(
            OPERATIONS["list_jobs"],
            {},
            {"library": library, "state": state, "kind": kind, "limit": limit, "page_token": page_token},
            None,
        )

    def get_job(self, id: str) -> JobJSON:
        """One job as it is now.

        Args:
            id: id of the job
        """
        return self._transport.call(OPERATIONS["get_job"], {"id": id}, {}, None)

    def cancel_job(self, id: str) -> JobJSON:
        """End a job: at once where it waits, as soon as it has put down what it holds where it runs.

        Args:
            id: id of the job
        """
        return self._transport.call(OPERATIONS["cancel_job"], {"id": id}, {}, None)

    def retry_job(self, id: str) -> JobJSON:
        """Run a job again that failed or was cancelled; what it finished is not done again.

        Args:
            id: id of the job
        """
        return self._transport.call(OPERATIONS["retry_job"], {"id": id}, {}, None)

    def follow_job(self, id: str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """Server-sent events: `progress`, `log` and `end`; `Last-Event-ID` goes on after an event that arrived.

        Args:
            id: id of the job
        """
        return self._transport.follow(
            OPERATIONS["follow_job"],
            {"id": id},
            {name: value for name, value in {"last-event-id": last_event_id}.items() if value is not None},
        )

    def list_libraries(self) -> LibraryList:
        """The libraries that you may see."""
        return self._transport.call(OPERATIONS["list_libraries"], {}, {}, None)

    def begin_library(self, *, name: str, arguments: AddArguments) -> JobJSON:
        """Begin a library by an add job; it is served as soon as that has something to search."""
        return self._transport.call(OPERATIONS["begin_library"], {}, {}, Body({"name": name, "arguments": arguments}))

    def get_library(self, name: str) -> LibraryJSON:
        """One library: videos, clips, experts with cost and space, failures with reasons, watched folders.

        Args:
            name: name of the library
        """
        return self._transport.call(OPERATIONS["get_library"], {"name": name}, {}, None)

    def watch_folders(self, name: str, *, folders: list[str]) -> list[WatchedJSON]:
        """Watch these folders: new files are added once they have stopped changing, moved ones keep their ids.

        Args:
            name: name of the library
        """
        return self._transport.call(OPERATIONS["watch_folders"], {"name": name}, {}, Body({"folders": folders}))

    def list_collections(self, *, library: str | None = None) -> CollectionList:
        """The collections of libraries that you may see."""
        return self._transport.call(OPERATIONS["list_collections"], {}, {"library": library}, None)

    def add_collection(
        self, *, name: str, library: str | None = None, note: str | None = None, tags: list[str] | None = None
    ) -> CollectionJSON:
        """Begin a collection."""
        return self._transport.call(
            OPERATIONS["add_collection"], {}, {}, Body({"library": library, "name": name, "note": note, "tags": tags})
        )

    def get_collection(self, id: str) -> CollectionJSON:
        """A collection with its moments, in its order.

        Args:
            id: id of the collection
        """
        return self._transport.call(OPERATIONS["get_collection"], {"id": id}, {}, None)

    def change_collection(
        self,
        id: str,
        *,
        name: str | None = None,
        note: str | None = None,
        tags: list[str] | None = None,
        order: list[str] | None = None,
    ) -> CollectionJSON:
        """Change a collection's name, note, tags or order.

        Args:
            id: id of the collection
            order: all its moments in a new order
        """
        return self._transport.call(
            OPERATIONS["change_collection"],
            {"id": id},
            {},
            Body({"name": name, "note": note, "tags": tags, "order": order}),
        )

    def remove_collection(self, id: str) -> None:
        """Delete a collection, its moments and its link; videos are not touched.

        Args:
            id: id of the collection
        """
        return self._transport.call(OPERATIONS["remove_collection"], {"id": id}, {}, None)

    def keep_moments(self, id: str, *, moments: list[NewMoment]) -> CollectionJSON:
        """Keep moments, all or none of them; their tags are written afterwards.

        Args:
            id: id of the collection
        """
        return self._transport.call(OPERATIONS["keep_moments"], {"id": id}, {}, Body({"moments": moments}))

    def drop_moments(self, id: str, *, moments: list[str]) -> CollectionJSON:
        """Take moments out of a collection; also of videos that are no longer in the library.

        Args:
            id: id of the collection
        """
        return self._transport.call(OPERATIONS["drop_moments"], {"id": id}, {}, Body({"moments": moments}))

    def share_collection(self, id: str) -> ShareJSON:
        """Make a link under which anybody may look at this collection's moments, and nothing else; an earlier one
        ends.

        Args:
            id: id of the collection
        """
        return self._transport.call(OPERATIONS["share_collection"], {"id": id}, {}, None)

    def unshare_collection(self, id: str) -> None:
        """End the link of a collection.

        Args:
            id: id of the collection
        """
        return self._transport.call(OPERATIONS["unshare_collection"], {"id": id}, {}, None)

    def export_collection(
        self,
        id: str,
        *,
        format: Literal["csv", "jsonl", "edl", "otio", "srt", "zip"],
        mode: Literal["copy", "exact"] | None = None,
        rate: float | None = None,
    ) -> bytes:
        """The moments of a collection as a file.

        Args:
            id: id of the collection
            format: of the file
            mode: of zip: `copy` cuts at key frames without loss, `exact` at the very frames
            rate: frames a second of edl and otio; default: the videos' own
        """
        return self._transport.call(
            OPERATIONS["export_collection"], {"id": id}, {"format": format, "mode": mode, "rate": rate}, None
        )

    def get_shared(self, secret: str) -> SharedCollection:
        """A shared collection with its moments.

        Args:
            secret: the secret of the link
        """
        return self._transport.call(OPERATIONS["get_shared"], {"secret": secret}, {}, None)

    def get_shared_thumbnail(self, secret: str, number: int) -> bytes:
        """A picture of a shared moment.

        Args:
            secret: the secret of the link
            number: of the moment in the collection, from 0
        """
        return self._transport.call(OPERATIONS["get_shared_thumbnail"], {"secret": secret, "number": number}, {}, None)

    def get_shared_media(self, secret: str, number: int) -> bytes:
        """A shared moment alone as an MP4, cut at its very frames: nothing before or after it is in the file.

        Args:
            secret: the secret of the link
            number: of the moment in the collection, from 0
        """
        return self._transport.call(OPERATIONS["get_shared_media"], {"secret": secret, "number": number}, {}, None)

    def get_session(self) -> SessionJSON:
        """Who you are; 401 where you are not signed in."""
        return self._transport.call(OPERATIONS["get_session"], {}, {}, None)

    def sign_in(self, *, name: str, password: str) -> SessionJSON:
        """Sign a browser in: the answer sets a cookie that scripts cannot read and other sites cannot send."""
        return self._transport.call(OPERATIONS["sign_in"], {}, {}, Body({"name": name, "password": password}))

    def sign_out(self) -> None:
        """Sign this browser out."""
        return self._transport.call(OPERATIONS["sign_out"], {}, {}, None)

    def list_accounts(self) -> AccountList:
        """All accounts."""
        return self._transport.call(OPERATIONS["list_accounts"], {}, {}, None)

    def add_account(
        self,
        *,
        name: str,
        password: str | None = None,
        scopes: list[Literal["read", "review", "write", "admin"]] | None = None,
        libraries: list[str] | None = None,
    ) -> AccountJSON:
        """Begin an account.

        Args:
            password: null for programs, and for who signs in at a proxy
            libraries: names of those that they may see; null is all
        """
        return self._transport.call(
            OPERATIONS["add_account"],
            {},
            {},
            Body({"name": name, "password": password, "scopes": scopes, "libraries": libraries}),
        )

    def change_account(
        self,
        name: str,
        *,
        password: str | None = None,
        scopes: list[Literal["read", "review", "write", "admin"]] | None = None,
        libraries: list[str] | None = None,
        all_libraries: bool | None = None,
        disabled: bool | None = None,
    ) -> AccountJSON:
        """Change an account's password or rights."""
        return self._transport.call(
            OPERATIONS["change_account"],
            {"name": name},
            {},
            Body(
                {
                    "password": password,
                    "scopes": scopes,
                    "libraries": libraries,
                    "all_libraries": all_libraries,
                    "disabled": disabled,
                }
            ),
        )

    def remove_account(self, name: str) -> None:
        """Remove an account, its tokens and its signed-in browsers."""
        return self._transport.call(OPERATIONS["remove_account"], {"name": name}, {}, None)

    def list_tokens(self, *, account: str | None = None) -> TokenList:
        """The tokens of an account, or of all."""
        return self._transport.call(OPERATIONS["list_tokens"], {}, {"account": account}, None)

    def add_token(
        self,
        *,
        account: str,
        label: str | None = None,
        scopes: list[Literal["read", "review", "write", "admin"]] | None = None,
        days: float | None = None,
    ) -> CreatedToken:
        """Begin a token; its secret is in this answer and nowhere else.

        Args:
            scopes: null takes those of the account
        """
        return self._transport.call(
            OPERATIONS["add_token"], {}, {}, Body({"account": account, "label": label, "scopes": scopes, "days": days})
        )

    def remove_token(self, id: str) -> None:
        """Revoke a token: it lets nobody in from now on."""
        return self._transport.call(OPERATIONS["remove_token"], {"id": id}, {}, None)

    def read_audit(self, *, limit: int | None = None, page_token: str | None = None) -> AuditPage:
        """Who changed what, newest first."""
        return self._transport.call(OPERATIONS["read_audit"], {}, {"limit": limit, "page_token": page_token}, None)

    def list_reviews(self, *, library: str | None = None) -> ReviewList:
        """The scans of libraries that you may see.

        Args:
            library: only reviews of this library
        """
        return self._transport.call(OPERATIONS["list_reviews"], {}, {"library": library}, None)

    def get_review(self, id: str) -> ReviewJSON:
        """A review, how far it is, and who judged.

        Args:
            id: id of the scan
        """
        return self._transport.call(OPERATIONS["get_review"], {"id": id}, {}, None)

    def change_review(self, id: str, *, opinions: int) -> ReviewJSON:
        """Ask for so many opinions on each pair.

        Args:
            id: id of the scan
            opinions: how many people judge each pair, blindly
        """
        return self._transport.call(OPERATIONS["change_review"], {"id": id}, {}, Body({"opinions": opinions}))

    def list_pairs(
        self,
        id: str,
        *,
        view: Literal["looked-at", "mine", "disagreements"],
        after: int | None = None,
        count: int | None = None,
    ) -> PairList:
        """Pairs to look at again.

        Args:
            id: id of the scan
            view: scrolled past and not judged, judged by you, or disputed
        """
        return self._transport.call(
            OPERATIONS["list_pairs"], {"id": id}, {"view": view, "after": after, "count": count}, None
        )

    def get_agreement(self, id: str) -> AgreementList:
        """How far every two reviewers agree.

        Args:
            id: id of the scan
        """
        return self._transport.call(OPERATIONS["get_agreement"], {"id": id}, {}, None)

    def next_pairs(self, id: str, *, after: int | None = None, count: int | None = None) -> QueueAnswer:
        """The next pairs that nobody else judges at the moment.

        Args:
            id: id of the scan
            after: place of the last pair that is at hand
        """
        return self._transport.call(OPERATIONS["next_pairs"], {"id": id}, {}, Body({"after": after, "count": count}))

    def renew_leases(self, id: str, *, places: list[int]) -> Counts:
        """Keep pairs for five more minutes.

        Args:
            id: id of the scan
        """
        return self._transport.call(OPERATIONS["renew_leases"], {"id": id}, {}, Body({"places": places}))

    def leave_review(self, id: str) -> Counts:
        """Let others judge the pairs that were yours.

        Args:
            id: id of the scan
        """
        return self._transport.call(OPERATIONS["leave_review"], {"id": id}, {}, None)

    def judge_pairs(
        self,
        id: str,
        *,
        places: list[int],
        verdict: Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"],
        settles: bool | None = None,
    ) -> QueueAnswer:
        """Judge pairs; no video is ever changed.

        Args:
            id: id of the scan
            settles: ends a disagreement of others
        """
        return self._transport.call(
            OPERATIONS["judge_pairs"], {"id": id}, {}, Body({"places": places, "verdict": verdict, "settles": settles})
        )

    def judge_pairs_below(
        self, id: str, *, below: float, verdict: Literal["not", "looked-at", "unsure"] | None = None
    ) -> JudgedBelow:
        """Judge every pair below a score that nobody has judged, as `reelseek overlap judge` does.

        Args:
            id: id of the scan
        """
        return self._transport.call(
            OPERATIONS["judge_pairs_below"], {"id": id}, {}, Body({"below": below, "verdict": verdict})
        )

    def undo_verdict(self, id: str) -> Undone:
        """Take back your last verdict.

        Args:
            id: id of the scan
        """
        return self._transport.call(OPERATIONS["undo_verdict"], {"id": id}, {}, None)

    def list_reports(self, *, library: str | None = None) -> ReportList:
        """Evaluations and trainings of libraries that you may see, and pages where you may see all libraries."""
        return self._transport.call(OPERATIONS["list_reports"], {}, {"library": library}, None)

    def get_report(self, id: str) -> ReportJSON:
        """A report with its tables, notes and files.

        Args:
            id: id of the report
        """
        return self._transport.call(OPERATIONS["get_report"], {"id": id}, {}, None)

    def get_report_file(self, id: str, name: str) -> bytes:
        """A file of a report. A page is shown as it is, without any program in it; nothing else of it runs either.

        Args:
            id: id of the report
        """
        return self._transport.call(OPERATIONS["get_report_file"], {"id": id, "name": name}, {}, None)


class AsyncOperations:
    """A method for each operation of the interface."""

    _transport: AsyncTransport

    async def get_health(self) -> dict[str, str]:
        """Whether the server answers at all."""
        return await self._transport.call(OPERATIONS["get_health"], {}, {}, None)

    async def get_metrics(self) -> str:
        """Counters of requests, searches and libraries for Prometheus."""
        return await self._transport.call(OPERATIONS["get_metrics"], {}, {}, None)

    async def get_readiness(self) -> dict[str, str]:
        """Whether the server can answer searches: every library can be read."""
        return await self._transport.call(OPERATIONS["get_readiness"], {}, {}, None)

    async def search(
        self,
        *,
        library: str | None = None,
        query: str | None = None,
        image: str | None = None,
        clip: str | None = None,
        moment: str | None = None,
        like: list[str] | None = None,
        unlike: list[str] | None = None,
        then: ThenRequest | None = None,
        model: str | None = None,
        sources: list[str] | None = None,
        weights: dict[str, float] | None = None,
        without: list[str] | None = None,
        filter: str | None = None,
        group_by: Literal["moment", "video"] | None = None,
        limit: int | None = None,
        page_token: str | None = None,
        explain: bool | None = None,
    ) -> SearchAnswer:
        """Find moments by words, by examples, or by both.

        Args:
            library: which library; may be left out where there is one
            query: words, `-without`, `word^2`, `"must occur"`, and filters such as `before:2020`
            image: an upload of a picture to look like
            clip: an upload of a video to be like
            moment: a moment to be like, as a hit names it
            like: moments or uploads to be like
            unlike: moments or uploads to be unlike
            model: a searchable one of GET /v1/models; null is the one that the server was started with
            sources: modalities or experts that alone shall count
            weights: factors for modalities or experts; 0 leaves one out
            without: modalities or experts that shall not count
            filter: filters alone, such as `folder:holiday has:speech`
            group_by: `video`: only the best moment of each video
            page_token: `page.next_token` of the answer before, with the same request otherwise
            explain: false leaves `why` empty
        """
        return await self._transport.call(
            OPERATIONS["search"],
            {},
            {},
            Body(
                {
                    "library": library,
                    "query": query,
                    "image": image,
                    "clip": clip,
                    "moment": moment,
                    "like": like,
                    "unlike": unlike,
                    "then": then,
                    "model": model,
                    "sources": sources,
                    "weights": weights,
                    "without": without,
                    "filter": filter,
                    "group_by": group_by,
                    "limit": limit,
                    "page_token": page_token,
                    "explain": explain,
                }
            ),
        )

    async def list_videos(
        self,
        *,
        library: str | None = None,
        filter: str | None = None,
        failed: bool | None = None,
        limit: int | None = None,
        page_token: str | None = None,
    ) -> VideoList:
        """List videos in order of their names.

        Args:
            library: which library; may be left out where there is one
            filter: filters, as in a search
            failed: only videos of which something could not be read or extracted
            page_token: `page.next_token` of the part before
        """
        return await self._transport.call(
            OPERATIONS["list_videos"],
            {},
            {"library": library, "filter": filter, "failed": failed, "limit": limit, "page_token": page_token},
            None,
        )

    async def add_videos(
        self,
        *,
        library: str | None = None,
        paths: list[str] | None = None,
        captions: str | None = None,
        experts: list[str] | None = None,
        preset: Literal["offline", "standard", "best"] | None = None,
        retry_failed: bool | None = None,
        device: str | None = None,
    ) -> JobJSON:
        """Add what lies at some paths of the server: the same as a job of the kind `add`.

        Args:
            library: which library; may be left out where there is one
            retry_failed: try again what failed before; without paths all of it
        """
        return await self._transport.call(
            OPERATIONS["add_videos"],
            {},
            {"library": library},
            Body(
                {
                    "paths": paths,
                    "captions": captions,
                    "experts": experts,
                    "preset": preset,
                    "retry_failed": retry_failed,
                    "device": device,
                }
            ),
        )

    async def get_video(self, id: str, *, library: str | None = None) -> Video:
        """One video: what it is, what was extracted from it, and what went wrong.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["get_video"], {"id": id}, {"library": library}, None)

    async def remove_video(self, id: str, *, library: str | None = None) -> JobJSON:
        """Forget a video and all that was derived from it: the same as a job of the kind `remove`; its file stays.

        Args:
            id: id of the video, as a hit names it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["remove_video"], {"id": id}, {"library": library}, None)

    async def get_captions(self, id: str, *, library: str | None = None) -> CaptionList:
        """The captions of a video.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["get_captions"], {"id": id}, {"library": library}, None)

    async def list_tags(self, *, library: str | None = None) -> TagList:
        """The tags of a library, which `tag:NAME` in a filter selects by.

        Args:
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["list_tags"], {}, {"library": library}, None)

    async def add_tags(
        self,
        id: str,
        *,
        tags: list[str],
        library: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> VideoTags:
        """Put tags on a video, or on a moment of it; one that it has already stays.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(
            OPERATIONS["add_tags"], {"id": id}, {"library": library}, Body({"tags": tags, "start": start, "end": end})
        )

    async def remove_tags(
        self,
        id: str,
        *,
        tags: list[str],
        library: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> VideoTags:
        """Take tags off a video, or off a moment of it, all or none.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(
            OPERATIONS["remove_tags"],
            {"id": id},
            {"library": library},
            Body({"tags": tags, "start": start, "end": end}),
        )

    async def get_curve(
        self, id: str, *, q: str, without: list[str] | None = None, library: str | None = None, model: str | None = None
    ) -> Curve:
        """How near each second of a video is to a query, and where that peaks.

        Args:
            id: id of the video, as hits and lists name it
            q: what to look for, as in a search
            without: modalities or experts that shall not count
            library: which library; may be left out where there is one
            model: as in a search
        """
        return await self._transport.call(
            OPERATIONS["get_curve"], {"id": id}, {"q": q, "without": without, "library": library, "model": model}, None
        )

    async def place_steps(
        self,
        id: str,
        *,
        steps: list[str],
        library: str | None = None,
        ordered: bool | None = None,
        missing: bool | None = None,
        model: str | None = None,
    ) -> StepsAnswer:
        """Assign one second of a video to each step of a task, so that the sum of their similarities is maximal.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
            ordered: false: they may happen in any order
            missing: true: they may happen nowhere
            model: as in a search
        """
        return await self._transport.call(
            OPERATIONS["place_steps"],
            {"id": id},
            {"library": library},
            Body({"steps": steps, "ordered": ordered, "missing": missing, "model": model}),
        )

    async def get_thumbnail(self, id: str, *, at: float | None = None, library: str | None = None) -> bytes:
        """The stored picture nearest to a time.

        Args:
            id: id of the video, as hits and lists name it
            at: seconds
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["get_thumbnail"], {"id": id}, {"at": at, "library": library}, None)

    async def get_strip(
        self,
        id: str,
        *,
        start: float | None = None,
        end: float | None = None,
        frames: int | None = None,
        height: int | None = None,
        library: str | None = None,
    ) -> bytes:
        """Frames at even distances from a span of a video, side by side in one picture.

        Args:
            id: id of the video, as hits and lists name it
            start: seconds
            end: null: the video's end
            frames: how many frames stand side by side
            height: of the picture in pixels
            library: which library; may be left out where there is one
        """
        return await self._transport.call(
            OPERATIONS["get_strip"],
            {"id": id},
            {"start": start, "end": end, "frames": frames, "height": height, "library": library},
            None,
        )

    async def get_media(self, id: str, *, library: str | None = None) -> bytes:
        """The video as a file that browsers play, whole or in ranges of bytes.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["get_media"], {"id": id}, {"library": library}, None)

    async def upload(self, *, content: bytes, content_type: str) -> Upload:
        """Send the bytes of a picture or of a clip, which searches may name as `image`, `clip`, `like` or `unlike`.

        Args:
            content: the bytes of the file
            content_type: their type, such as image/jpeg
        """
        return await self._transport.call(
            OPERATIONS["upload"], {}, {}, Body(content=content, content_type=content_type)
        )

    async def list_models(self) -> ModelList:
        """The models that search the libraries, with what they compare, and those that jobs trained."""
        return await self._transport.call(OPERATIONS["list_models"], {}, {}, None)

    async def add_job(
        self, body: AddJob | RemoveJob | IndexJob | ScanJob | CaptionJob | TrainJob | EvaluateJob
    ) -> JobJSON:
        """Check a job and put it into the queue.

        Args:
            body: one of these kinds
        """
        return await self._transport.call(OPERATIONS["add_job"], {}, {}, Body(body))

    async def list_jobs(
        self,
        *,
        library: str | None = None,
        state: Literal["queued", "running", "succeeded", "failed", "cancelled"] | None = None,
        kind: Literal["add", "remove", "index", "scan", "caption", "train", "evaluate"] | None = None,
        limit: int | None = None,
        page_token: str | None = None,
    ) -> JobList:
        """Jobs on libraries that you may see, newest first."""
        return await self._transport.call(
            OPERATIONS["list_jobs"],
            {},
            {"library": library, "state": state, "kind": kind, "limit": limit, "page_token": page_token},
            None,
        )

    async def get_job(self, id: str) -> JobJSON:
        """One job as it is now.

        Args:
            id: id of the job
        """
        return await self._transport.call(OPERATIONS["get_job"], {"id": id}, {}, None)

    async def cancel_job(self, id: str) -> JobJSON:
        """End a job: at once where it waits, as soon as it has put down what it holds where it runs.

        Args:
            id: id of the job
        """
        return await self._transport.call(OPERATIONS["cancel_job"], {"id": id}, {}, None)

    async def retry_job(self, id: str) -> JobJSON:
        """Run a job again that failed or was cancelled; what it finished is not done again.

        Args:
            id: id of the job
        """
        return await self._transport.call(OPERATIONS["retry_job"], {"id": id}, {}, None)

    def follow_job(self, id: str, *, last_event_id: str | None = None) -> AsyncIterator[Event]:
        """Server-sent events: `progress`, `log` and `end`; `Last-Event-ID` goes on after an event that arrived.

        Args:
            id: id of the job
        """
        return self._transport.follow(
            OPERATIONS["follow_job"],
            {"id": id},
            {name: value for name, value in {"last-event-id": last_event_id}.items() if value is not None},
        )

    async def list_libraries(self) -> LibraryList:
        """The libraries that you may see."""
        return await self._transport.call(OPERATIONS["list_libraries"], {}, {}, None)

    async def begin_library(self, *, name: str, arguments: AddArguments) -> JobJSON:
        """Begin a library by an add job; it is served as soon as that has something to search."""
        return await self._transport.call(
            OPERATIONS["begin_library"], {}, {}, Body({"name": name, "arguments": arguments})
        )

    async def get_library(self, name: str) -> LibraryJSON:
        """One library: videos, clips, experts with cost and space, failures with reasons, watched folders.

        Args:
            name: name of the library
        """
        return await self._transport.call(OPERATIONS["get_library"], {"name": name}, {}, None)

    async def watch_folders(self, name: str, *, folders: list[str]) -> list[WatchedJSON]:
        """Watch these folders: new files are added once they have stopped changing, moved ones keep their ids.

        Args:
            name: name of the library
        """
        return await self._transport.call(OPERATIONS["watch_folders"], {"name": name}, {}, Body({"folders": folders}))

    async def list_collections(self, *, library: str | None = None) -> CollectionList:
        """The collections of libraries that you may see."""
        return await self._transport.call(OPERATIONS["list_collections"], {}, {"library": library}, None)

    async def add_collection(
        self, *, name: str, library: str | None = None, note: str | None = None, tags: list[str] | None = None
    ) -> CollectionJSON:
        """Begin a collection."""
        return await self._transport.call(
            OPERATIONS["add_collection"], {}, {}, Body({"library": library, "name": name, "note": note, "tags": tags})
        )

    async def get_collection(self, id: str) -> CollectionJSON:
        """A collection with its moments, in its order.

        Args:
            id: id of the collection
        """
        return await self._transport.call(OPERATIONS["get_collection"], {"id": id}, {}, None)

    async def change_collection(
        self,
        id: str,
        *,
        name: str | None = None,
        note: str | None = None,
        tags: list[str] | None = None,
        order: list[str] | None = None,
    ) -> CollectionJSON:
        """Change a collection's name, note, tags or order.

        Args:
            id: id of the collection
            order: all its moments in a new order
        """
        return await self._transport.call(
            OPERATIONS["change_collection"],
            {"id": id},
            {},
            Body({"name": name, "note": note, "tags": tags, "order": order}),
        )

    async def remove_collection(self, id: str) -> None:
        """Delete a collection, its moments and its link; videos are not touched.

        Args:
            id: id of the collection
        """
        return await self._transport.call(OPERATIONS["remove_collection"], {"id": id}, {}, None)

    async def keep_moments(self, id: str, *, moments: list[NewMoment]) -> CollectionJSON:
        """Keep moments, all or none of them; their tags are written afterwards.

        Args:
            id: id of the collection
        """
        return await self._transport.call(OPERATIONS["keep_moments"], {"id": id}, {}, Body({"moments": moments}))

    async def drop_moments(self, id: str, *, moments: list[str]) -> CollectionJSON:
        """Take moments out of a collection; also of videos that are no longer in the library.

        Args:
            id: id of the collection
        """
        return await self._transport.call(OPERATIONS["drop_moments"], {"id": id}, {}, Body({"moments": moments}))

    async def share_collection(self, id: str) -> ShareJSON:
        """Make a link under which anybody may look at this collection's moments, and nothing else; an earlier one
        ends.

        Args:
            id: id of the collection
        """
        return await self._transport.call(OPERATIONS["share_collection"], {"id": id}, {}, None)

    async def unshare_collection(self, id: str) -> None:
        """End the link of a collection.

        Args:
            id: id of the collection
        """
        return await self._transport.call(OPERATIONS["unshare_collection"], {"id": id}, {}, None)

    async def export_collection(
        self,
        id: str,
        *,
        format: Literal["csv", "jsonl", "edl", "otio", "srt", "zip"],
        mode: Literal["copy", "exact"] | None = None,
        rate: float | None = None,
    ) -> bytes:
        """The moments of a collection as a file.

        Args:
            id: id of the collection
            format: of the file
            mode: of zip: `copy` cuts at key frames without loss, `exact` at the very frames
            rate: frames a second of edl and otio; default: the videos' own
        """
        return await self._transport.call(
            OPERATIONS["export_collection"], {"id": id}, {"format": format, "mode": mode, "rate": rate}, None
        )

    async def get_shared(self, secret: str) -> SharedCollection:
        """A shared collection with its moments.

        Args:
            secret: the secret of the link
        """
        return await self._transport.call(OPERATIONS["get_shared"], {"secret": secret}, {}, None)

    async def get_shared_thumbnail(self, secret: str, number: int) -> bytes:
        """A picture of a shared moment.

        Args:
            secret: the secret of the link
            number: of the moment in the collection, from 0
        """
        return await self._transport.call(
            OPERATIONS["get_shared_thumbnail"], {"secret": secret, "number": number}, {}, None
        )

    async def get_shared_media(self, secret: str, number: int) -> bytes:
        """A shared moment alone as an MP4, cut at its very frames: nothing before or after it is in the file.

        Args:
            secret: the secret of the link
            number: of the moment in the collection, from 0
        """
        return await self._transport.call(
            OPERATIONS["get_shared_media"], {"secret": secret, "number": number}, {}, None
        )

    async def get_session(self) -> SessionJSON:
        """Who you are; 401 where you are not signed in."""
        return await self._transport.call(OPERATIONS["get_session"], {}, {}, None)

    async def sign_in(self, *, name: str, password: str) -> SessionJSON:
        """Sign a browser in: the answer sets a cookie that scripts cannot read and other sites cannot send."""
        return await self._transport.call(OPERATIONS["sign_in"], {}, {}, Body({"name": name, "password": password}))

    async def sign_out(self) -> None:
        """Sign this browser out."""
        return await self._transport.call(OPERATIONS["sign_out"], {}, {}, None)

    async def list_accounts(self) -> AccountList:
        """All accounts."""
        return await self._transport.call(OPERATIONS["list_accounts"], {}, {}, None)

    async def add_account(
        self,
        *,
        name: str,
        password: str | None = None,
        scopes: list[Literal["read", "review", "write", "admin"]] | None = None,
        libraries: list[str] | None = None,
    ) -> AccountJSON:
        """Begin an account.

        Args:
            password: null for programs, and for who signs in at a proxy
            libraries: names of those that they may see; null is all
        """
        return await self._transport.call(
            OPERATIONS["add_account"],
            {},
            {},
            Body({"name": name, "password": password, "scopes": scopes, "libraries": libraries}),
        )

    async def change_account(
        self,
        name: str,
        *,
        password: str | None = None,
        scopes: list[Literal["read", "review", "write", "admin"]] | None = None,
        libraries: list[str] | None = None,
        all_libraries: bool | None = None,
        disabled: bool | None = None,
    ) -> AccountJSON:
        """Change an account's password or rights."""
        return await self._transport.call(
            OPERATIONS["change_account"],
            {"name": name},
            {},
            Body(
                {
                    "password": password,
                    "scopes": scopes,
                    "libraries": libraries,
                    "all_libraries": all_libraries,
                    "disabled": disabled,
                }
            ),
        )

    async def remove_account(self, name: str) -> None:
        """Remove an account, its tokens and its signed-in browsers."""
        return await self._transport.call(OPERATIONS["remove_account"], {"name": name}, {}, None)

    async def list_tokens(self, *, account: str | None = None) -> TokenList:
        """The tokens of an account, or of all."""
        return await self._transport.call(OPERATIONS["list_tokens"], {}, {"account": account}, None)

    async def add_token(
        self,
        *,
        account: str,
        label: str | None = None,
        scopes: list[Literal["read", "review", "write", "admin"]] | None = None,
        days: float | None = None,
    ) -> CreatedToken:
        """Begin a token; its secret is in this answer and nowhere else.

        Args:
            scopes: null takes those of the account
        """
        return await self._transport.call(
            OPERATIONS["add_token"], {}, {}, Body({"account": account, "label": label, "scopes": scopes, "days": days})
        )

    async def remove_token(self, id: str) -> None:
        """Revoke a token: it lets nobody in from now on."""
        return await self._transport.call(OPERATIONS["remove_token"], {"id": id}, {}, None)

    async def read_audit(self, *, limit: int | None = None, page_token: str | None = None) -> AuditPage:
        """Who changed what, newest first."""
        return await self._transport.call(
            OPERATIONS["read_audit"], {}, {"limit": limit, "page_token": page_token}, None
        )

    async def list_reviews(self, *, library: str | None = None) -> ReviewList:
        """The scans of libraries that you may see.

        Args:
            library: only reviews of this library
        """
        return await self._transport.call(OPERATIONS["list_reviews"], {}, {"library": library}, None)

    async def get_review(self, id: str) -> ReviewJSON:
        """A review, how far it is, and who judged.

        Args:
            id: id of the scan
        """
        return await self._transport.call(OPERATIONS["get_review"], {"id": id}, {}, None)

    async def change_review(self, id: str, *, opinions: int) -> ReviewJSON:
        """Ask for so many opinions on each pair.

        Args:
            id: id of the scan
            opinions: how many people judge each pair, blindly
        """
        return await self._transport.call(OPERATIONS["change_review"], {"id": id}, {}, Body({"opinions": opinions}))

    async def list_pairs(
        self,
        id: str,
        *,
        view: Literal["looked-at", "mine", "disagreements"],
        after: int | None = None,
        count: int | None = None,
    ) -> PairList:
        """Pairs to look at again.

        Args:
            id: id of the scan
            view: scrolled past and not judged, judged by you, or disputed
        """
        return await self._transport.call(
            OPERATIONS["list_pairs"], {"id": id}, {"view": view, "after": after, "count": count}, None
        )

    async def get_agreement(self, id: str) -> AgreementList:
        """How far every two reviewers agree.

        Args:
            id: id of the scan
        """
        return await self._transport.call(OPERATIONS["get_agreement"], {"id": id}, {}, None)

    async def next_pairs(self, id: str, *, after: int | None = None, count: int | None = None) -> QueueAnswer:
        """The next pairs that nobody else judges at the moment.

        Args:
            id: id of the scan
            after: place of the last pair that is at hand
        """
        return await self._transport.call(
            OPERATIONS["next_pairs"], {"id": id}, {}, Body({"after": after, "count": count})
        )

    async def renew_leases(self, id: str, *, places: list[int]) -> Counts:
        """Keep pairs for five more minutes.

        Args:
            id: id of the scan
        """
        return await self._transport.call(OPERATIONS["renew_leases"], {"id": id}, {}, Body({"places": places}))

    async def leave_review(self, id: str) -> Counts:
        """Let others judge the pairs that were yours.

        Args:
            id: id of the scan
        """
        return await self._transport.call(OPERATIONS["leave_review"], {"id": id}, {}, None)

    async def judge_pairs(
        self,
        id: str,
        *,
        places: list[int],
        verdict: Literal["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at"],
        settles: bool | None = None,
    ) -> QueueAnswer:
        """Judge pairs; no video is ever changed.

        Args:
            id: id of the scan
            settles: ends a disagreement of others
        """
        return await self._transport.call(
            OPERATIONS["judge_pairs"], {"id": id}, {}, Body({"places": places, "verdict": verdict, "settles": settles})
        )

    async def judge_pairs_below(
        self, id: str, *, below: float, verdict: Literal["not", "looked-at", "unsure"] | None = None
    ) -> JudgedBelow:
        """Judge every pair below a score that nobody has judged, as `reelseek overlap judge` does.

        Args:
            id: id of the scan
        """
        return await self._transport.call(
            OPERATIONS["judge_pairs_below"], {"id": id}, {}, Body({"below": below, "verdict": verdict})
        )

    async def undo_verdict(self, id: str) -> Undone:
        """Take back your last verdict.

        Args:
            id: id of the scan
        """
        return await self._transport.call(OPERATIONS["undo_verdict"], {"id": id}, {}, None)

    async def list_reports(self, *, library: str | None = None) -> ReportList:
        """Evaluations and trainings of libraries that you may see, and pages where you may see all libraries."""
        return await self._transport.call(OPERATIONS["list_reports"], {}, {"library": library}, None)

    async def get_report(self, id: str) -> ReportJSON:
        """A report with its tables, notes and files.

        Args:
            id: id of the report
        """
        return await self._transport.call(OPERATIONS["get_report"], {"id": id}, {}, None)

    async def get_report_file(self, id: str, name: str) -> bytes:
        """A file of a report. A page is shown as it is, without any program in it; nothing else of it runs either.

        Args:
            id: id of the report
        """
        return await self._transport.call(OPERATIONS["get_report_file"], {"id": id, "name": name}, {}, None)
