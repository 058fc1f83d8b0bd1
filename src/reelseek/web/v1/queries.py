"""Parameters of an address that no route reads are refused: a misspelt one would be ignored in silence."""

from typing import Any

from fastapi import Request

from reelseek.web.problems import Problem

__all__ = ["refuse_unknown_parameters"]

_OF_EVERY_ROUTE = {"token"}  # read before any route is


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a request whose query names what its route does not take; a dependency of every route of `/v1`.

    Raises:
        Problem: 422, with the names that there are.
    """
    names = list(dict.fromkeys(request.query_params))
    if not names:
        return
    route, method = request.scope["route"], "get" if request.method == "HEAD" else request.method.lower()
    operation: dict[str, Any] = request.app.openapi()["paths"].get(route.path, {}).get(method, {})
    existing = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    unknown = [name for name in names if name not in {*existing, *_OF_EVERY_ROUTE}]
    if unknown:
        detail = f"not a parameter of this address, which takes {', '.join(existing) or 'none'}"
        raise Problem(
            422,
            "a parameter is wrong",
            "; ".join(f"{name[:100]}: {detail}" for name in unknown[:20]),
            errors=[{"field": f"query.{name[:100]}", "detail": detail} for name in unknown[:20]],
        )
