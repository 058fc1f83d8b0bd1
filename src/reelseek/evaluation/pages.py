"""Pages in HTML: the templates of this package, with every value escaped."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_page"]


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # few commands write pages

    templates = Environment(
        loader=PackageLoader("reelseek.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}  # the order of spans is that of the legend
    return templates


def render_page(template: str, **values: object) -> str:
    """Fill in a template of this package, such as `report.html`; what its values contain is never markup."""
    return _templates().get_template(template).render(values)
