"""`/v1/accounts`, `/v1/tokens` and `/v1/audit`: who may come in, and what they changed; for admins."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from reelseek.web.accounts.guard import note
from reelseek.web.accounts.store import Account, Token
from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.service import Caller, Scope, require
from reelseek.web.state_services import AccountsOf, AuditOf
from reelseek.web.v1.answers import problems

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["accounts"], responses=problems(409, 410, 507))
Admin = Annotated[Caller, Depends(require("admin"))]
Name = Annotated[str, Field(min_length=1, max_length=64)]
NameInPath = Annotated[str, Path(max_length=64)]
Libraries = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=1000)]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=4)]
Password = Annotated[str, Field(min_length=10, max_length=1000)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewAccount(_Request):
    """An account that is begun."""

    name: Name
    password: Password | None = Field(default=None, description="null for programs, and for who signs in at a proxy")
    scopes: Scopes = ["read"]
    libraries: Libraries | None = Field(default=None, description="names of those that they may see; null is all")


class AccountChange(_Request):
    """What of an account is changed; it is signed out everywhere."""

    password: Password | None = None
    scopes: Scopes | None = None
    libraries: Libraries | None = None
    all_libraries: bool = False
    disabled: bool | None = None


class AccountJSON(BaseModel):
    """An account."""

    name: str
    scopes: list[Scope]
    libraries: list[str] | None
    created: float
    disabled: bool
    has_password: bool


class AccountList(BaseModel):
    """All accounts."""

    data: list[AccountJSON]


class NewToken(_Request):
    """A token that is begun."""

    account: Name
    label: Annotated[str, Field(max_length=100)] = ""
    scopes: Scopes | None = Field(default=None, description="null takes those of the account")
    days: Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)] | None = None


class TokenJSON(BaseModel):
    """A token without its secret; times are seconds since 1970."""

    id: str
    account: str
    label: str
    scopes: list[Scope]
    created: float
    expires: float | None
    used: float | None


class TokenList(BaseModel):
    """All tokens."""

    data: list[TokenJSON]


class CreatedToken(TokenJSON):
    """A new token with its secret, which is never shown again."""

    secret: str


class AuditRow(BaseModel):
    """Somebody changed something, or tried to; `status` is null where the server ended before it was done."""

    number: int
    time: float
    who: str = Field(description="'' where nobody was signed in")
    address: str
    action: str
    status: int | None
    facts: dict[str, Any]


class AuditPage(BaseModel):
    """Rows of the audit log, newest first."""

    data: list[AuditRow]
    next_token: str | None


@router.get("/accounts", operation_id="list_accounts", response_model=AccountList)
async def list_accounts(identities: AccountsOf, caller: Admin) -> AnyJSON:
    """All accounts."""
    accounts = await run_in_threadpool(identities.accounts.all)
    return AnyJSON({"data": [_account_json(account) for account in accounts]})


@router.post("/accounts", operation_id="add_account", status_code=201, response_model=AccountJSON)
async def add_account(request: Request, body: NewAccount, identities: AccountsOf, caller: Admin) -> AnyJSON:
    """Begin an account."""
    note(request, account=body.name, scopes=body.scopes)

    def add() -> Account:
        return identities.accounts.add(body.name, password=body.password, scopes=body.scopes, libraries=body.libraries)

    return AnyJSON(_account_json(await run_in_threadpool(add)), 201)


@router.patch("/accounts/{name}", operation_id="change_account", response_model=AccountJSON)
async def change_account(
    request: Request, name: NameInPath, body: AccountChange, identities: AccountsOf, caller: Admin
) -> AnyJSON:
    """Change an account's password or rights."""
    note(request, account=name, changed=sorted(body.model_fields_set))
    await run_in_threadpool(_require, identities, name)
    account = await run_in_threadpool(lambda: identities.accounts.change(name, **body.model_dump()))
    return AnyJSON(_account_json(account))


@router.delete("/accounts/{name}", operation_id="remove_account", status_code=204)
async def remove_account(request: Request, name: NameInPath, identities: AccountsOf, caller: Admin) -> Response:
    """Remove an account, its tokens and its signed-in browsers."""
    note(request, account=name)
    await run_in_threadpool(_require, identities, name)
    if name.lower() == caller.name:
        raise Problem(409, "this is you", "another admin can remove your account")
    await run_in_threadpool(identities.accounts.remove, name)
    return Response(status_code=204)


@router.get("/tokens", operation_id="list_tokens", response_model=TokenList)
async def list_tokens(
    identities: AccountsOf, caller: Admin, account: Annotated[str | None, Query(max_length=64)] = None
) -> AnyJSON:
    """The tokens of an account, or of all."""
    tokens = await run_in_threadpool(identities.accounts.tokens, account)
    return AnyJSON({"data": [_token_json(token) for token in tokens]})


@router.post("/tokens", operation_id="add_token", status_code=201, response_model=CreatedToken)
async def add_token(request: Request, body: NewToken, identities: AccountsOf, caller: Admin) -> AnyJSON:
    """Begin a token; its secret is in this answer and nowhere else."""
    note(request, account=body.account, label=body.label)
    await run_in_threadpool(_require, identities, body.account)
    token, secret = await run_in_threadpool(
        lambda: identities.accounts.add_token(body.account, body.label, body.scopes, days=body.days)
    )
    note(request, token=token.id)
    return AnyJSON({**_token_json(token), "secret": secret}, 201, {"Cache-Control": "no-store"})


@router.delete("/tokens/{id}", operation_id="remove_token", status_code=204)
async def remove_token(
    request: Request, id: Annotated[str, Path(pattern="^[0-9a-f]{12}$")], identities: AccountsOf, caller: Admin
) -> Response:
    """Revoke a token: it lets nobody in from now on."""
    note(request, token=id)
    if not await run_in_threadpool(identities.accounts.remove_token, id):
        raise Problem(404, "no such token", "there is no token of this id")
    return Response(status_code=204)


@router.get("/audit", operation_id="read_audit", response_model=AuditPage)
async def read_audit(
    audit: AuditOf,
    caller: Admin,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: Annotated[str | None, Query(pattern="^[0-9]{1,18}$")] = None,
) -> AnyJSON:
    """Who changed what, newest first."""
    rows = await run_in_threadpool(lambda: audit.rows(before=int(page_token) if page_token else None, limit=limit + 1))
    token = str(rows[limit - 1]["number"]) if len(rows) > limit else None
    return AnyJSON({"data": rows[:limit], "next_token": token})


def _require(identities: AccountsOf, name: str) -> None:
    if identities.accounts.get(name) is None:
        raise Problem(404, "no such account", f"there is no account {name!r}")


def _account_json(account: Account) -> dict[str, Any]:
    libraries = sorted(account.libraries) if account.libraries is not None else None
    return {**vars(account), "scopes": sorted(account.scopes), "libraries": libraries}


def _token_json(token: Token) -> dict[str, Any]:
    return {**vars(token), "scopes": sorted(token.scopes)}
