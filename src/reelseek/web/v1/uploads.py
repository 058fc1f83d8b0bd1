"""`POST /v1/uploads`: a picture or a clip to search by."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from reelseek.errors import MediaError
from reelseek.web.media import without_path
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Reader, ServiceOf
from reelseek.web.uploads import Kind, check_file
from reelseek.web.v1.answers import problems
from reelseek.web.v1.video_schema import Upload

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["uploads"], responses=problems(415, 507))
_CHECK_SECONDS = 20
_BODY = {"schema": {"type": "string", "format": "binary"}}
_DOCUMENTED = {"requestBody": {"required": True, "content": {"image/*": _BODY, "video/*": _BODY}}}


@router.post("/uploads", operation_id="upload", status_code=201, response_model=Upload, openapi_extra=_DOCUMENTED)
async def upload(request: Request, service: ServiceOf, caller: Reader) -> AnyJSON:
    """Send the bytes of a picture or of a clip, which searches may name as `image`, `clip`, `like` or `unlike`."""
    kind = _kind(request.headers.get("content-type", ""))
    uploads = service.uploads
    try:
        path = await uploads.receive(request.stream(), kind)
    except ClientDisconnect as error:
        raise Problem(400, "the body did not arrive", "the connection ended before the body did") from error
    try:
        seconds = await service.decoding.result(
            request, ("upload", path), check_file, (path, kind), seconds=_CHECK_SECONDS
        )
    except MediaError as error:
        path.unlink(missing_ok=True)
        message = without_path(str(error), path, "the file")
        raise Problem(422, "the file cannot be read", message) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    stored = uploads.add(path, kind, seconds, caller.name)
    expires = datetime.fromtimestamp(stored.expires, UTC).isoformat(timespec="seconds")
    return AnyJSON(Upload(id=stored.id, kind=kind, seconds=seconds, expires=expires).model_dump(), 201)


def _kind(content_type: str) -> Kind:
    main = content_type.partition("/")[0].strip().lower()
    if main not in ("image", "video"):
        message = "send the bytes of a file with a Content-Type of image/... or video/..."
        raise Problem(415, "no picture and no video", message)
    return "image" if main == "image" else "video"
