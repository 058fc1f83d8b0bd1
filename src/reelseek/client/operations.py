"""Written by `reelseek.client.generate` from the OpenAPI document; not by hand."""

from typing import Literal

from reelseek.client.schema import (
    CaptionList,
    Curve,
    ModelList,
    SearchAnswer,
    StepsAnswer,
    ThenRequest,
    Upload,
    Video,
    VideoList,
)
from reelseek.client.transport import AsyncTransport, Body, Operation, SyncTransport

__all__ = ["OPERATIONS", "AsyncOperations", "SyncOperations"]

OPERATIONS = {
    "get_health": Operation("GET", "/healthz", "json"),
    "get_metrics": Operation("GET", "/metrics", "text"),
    "get_readiness": Operation("GET", "/readyz", "json"),
    "search": Operation("POST", "/v1/search", "json"),
    "list_videos": Operation("GET", "/v1/videos", "json"),
    "get_video": Operation("GET", "/v1/videos/{id}", "json"),
    "get_captions": Operation("GET", "/v1/videos/{id}/captions", "json"),
    "get_curve": Operation("GET", "/v1/videos/{id}/curve", "json"),
    "place_steps": Operation("POST", "/v1/videos/{id}/steps", "json"),
    "get_thumbnail": Operation("GET", "/v1/videos/{id}/thumbnail", "bytes"),
    "get_strip": Operation("GET", "/v1/videos/{id}/strip", "bytes"),
    "get_media": Operation("GET", "/v1/videos/{id}/media", "bytes"),
    "upload": Operation("POST", "/v1/uploads", "json"),
    "list_models": Operation("GET", "/v1/models", "json"),
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

    def get_video(self, id: str, *, library: str | None = None) -> Video:
        """One video: what it is, what was extracted from it, and what went wrong.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["get_video"], {"id": id}, {"library": library}, None)

    def get_captions(self, id: str, *, library: str | None = None) -> CaptionList:
        """The captions of a video.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return self._transport.call(OPERATIONS["get_captions"], {"id": id}, {"library": library}, None)

    def get_curve(self, id: str, *, q: str, without: list[str] | None = None, library: str | None = None) -> Curve:
        """How near each second of a video is to a query, and where that peaks.

        Args:
            id: id of the video, as hits and lists name it
            q: what to look for, as in a search
            without: modalities or experts that shall not count
            library: which library; may be left out where there is one
        """
        return self._transport.call(
            OPERATIONS["get_curve"], {"id": id}, {"q": q, "without": without, "library": library}, None
        )

    def place_steps(
        self,
        id: str,
        *,
        steps: list[str],
        library: str | None = None,
        ordered: bool | None = None,
        missing: bool | None = None,
    ) -> StepsAnswer:
        """Assign one second of a video to each step of a task, so that the sum of their similarities is maximal.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
            ordered: false: they may happen in any order
            missing: true: they may happen nowhere
        """
        return self._transport.call(
            OPERATIONS["place_steps"],
            {"id": id},
            {"library": library},
            Body({"steps": steps, "ordered": ordered, "missing": missing}),
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
        library: str | None = None,
    ) -> bytes:
        """Frames at even distances from a span of a video, side by side in one picture.

        Args:
            id: id of the video, as hits and lists name it
            start: seconds
            end: null: the video's end
            frames: how many frames stand side by side
            library: which library; may be left out where there is one
        """
        return self._transport.call(
            OPERATIONS["get_strip"],
            {"id": id},
            {"start": start, "end": end, "frames": frames, "library": library},
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
        """The models that search the libraries, and what of these they compare with queries."""
        return self._transport.call(OPERATIONS["list_models"], {}, {}, None)


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

    async def get_video(self, id: str, *, library: str | None = None) -> Video:
        """One video: what it is, what was extracted from it, and what went wrong.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["get_video"], {"id": id}, {"library": library}, None)

    async def get_captions(self, id: str, *, library: str | None = None) -> CaptionList:
        """The captions of a video.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
        """
        return await self._transport.call(OPERATIONS["get_captions"], {"id": id}, {"library": library}, None)

    async def get_curve(
        self, id: str, *, q: str, without: list[str] | None = None, library: str | None = None
    ) -> Curve:
        """How near each second of a video is to a query, and where that peaks.

        Args:
            id: id of the video, as hits and lists name it
            q: what to look for, as in a search
            without: modalities or experts that shall not count
            library: which library; may be left out where there is one
        """
        return await self._transport.call(
            OPERATIONS["get_curve"], {"id": id}, {"q": q, "without": without, "library": library}, None
        )

    async def place_steps(
        self,
        id: str,
        *,
        steps: list[str],
        library: str | None = None,
        ordered: bool | None = None,
        missing: bool | None = None,
    ) -> StepsAnswer:
        """Assign one second of a video to each step of a task, so that the sum of their similarities is maximal.

        Args:
            id: id of the video, as hits and lists name it
            library: which library; may be left out where there is one
            ordered: false: they may happen in any order
            missing: true: they may happen nowhere
        """
        return await self._transport.call(
            OPERATIONS["place_steps"],
            {"id": id},
            {"library": library},
            Body({"steps": steps, "ordered": ordered, "missing": missing}),
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
        library: str | None = None,
    ) -> bytes:
        """Frames at even distances from a span of a video, side by side in one picture.

        Args:
            id: id of the video, as hits and lists name it
            start: seconds
            end: null: the video's end
            frames: how many frames stand side by side
            library: which library; may be left out where there is one
        """
        return await self._transport.call(
            OPERATIONS["get_strip"],
            {"id": id},
            {"start": start, "end": end, "frames": frames, "library": library},
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
        """The models that search the libraries, and what of these they compare with queries."""
        return await self._transport.call(OPERATIONS["list_models"], {}, {}, None)
