"""`reelseek overlap`: find footage that two sets share, judge it, clean, and check."""

import typer

from reelseek.cli.overlap import clean, review, screensavers, search

__all__ = ["app"]

app = typer.Typer(help="Footage that two sets of videos share.", no_args_is_help=True, rich_markup_mode=None)
for module in (search, review, clean):
    module.register(app)
app.add_typer(screensavers.app, name="screensavers")
