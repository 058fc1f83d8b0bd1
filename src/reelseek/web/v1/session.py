"""`/v1/session`: signing in on a page, and who a request comes from."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from reelseek.web.accounts.guard import note
from reelseek.web.accounts.identity import COOKIE
from reelseek.web.problems import AnyJSON
from reelseek.web.service import Caller, Scope, ServiceOf
from reelseek.web.state_services import AccountsOf
from reelseek.web.v1.answers import problems

__all__ = ["router"]

router = APIRouter(prefix="/v1/session", tags=["session"], responses=problems(409, 410, 507))
_COOKIE_SECONDS = 90 * 24 * 3600


class SignIn(BaseModel):
    """A name and its password."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=64)]
    password: Annotated[str, Field(min_length=1, max_length=1000)]


class SessionJSON(BaseModel):
    """Who asks, and what they may do."""

    name: str
    scopes: list[Scope]
    libraries: list[str] | None = Field(description="those that they may see; null is all")


@router.get("", operation_id="get_session", response_model=SessionJSON)
async def get_session(request: Request, service: ServiceOf) -> AnyJSON:
    """Who you are; 401 where you are not signed in."""
    return AnyJSON(_session_json(await service.who(request)))


@router.post("", operation_id="sign_in", response_model=SessionJSON)
async def sign_in(request: Request, body: SignIn, identities: AccountsOf) -> AnyJSON:
    """Sign a browser in: the answer sets a cookie that scripts cannot read and other sites cannot send."""
    note(request, name=body.name)
    account = await identities.sign_in(request, body.name, body.password)
    earlier = request.cookies.get(COOKIE, "")
    if earlier:
        await run_in_threadpool(identities.accounts.end_session, earlier)
    cookie = await run_in_threadpool(identities.accounts.begin_session, account)
    answer = AnyJSON(_session_json(account.caller()))
    answer.set_cookie(
        COOKIE, cookie, max_age=_COOKIE_SECONDS, path=request.scope.get("root_path") or "/", httponly=True,
        samesite="strict", secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.delete("", operation_id="sign_out", status_code=204)
async def sign_out(request: Request, identities: AccountsOf) -> Response:
    """Sign this browser out."""
    cookie = request.cookies.get(COOKIE, "")
    if cookie:
        await run_in_threadpool(identities.accounts.end_session, cookie)
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/", httponly=True, samesite="strict")
    return answer


def _session_json(caller: Caller) -> dict[str, object]:
    libraries = sorted(caller.libraries) if caller.libraries is not None else None
    return {"name": caller.name, "scopes": sorted(caller.scopes), "libraries": libraries}
