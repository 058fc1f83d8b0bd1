"""What a search is given instead of words: moments by their ids, and uploads."""

from dataclasses import dataclass, replace

from reelseek.errors import QueryError
from reelseek.search import Footage, Moment, Picture
from reelseek.search.examples import Example
from reelseek.web.media import without_path
from reelseek.web.problems import Problem
from reelseek.web.service import Caller, ServedLibrary, Service
from reelseek.web.v1.schema import SearchRequest

__all__ = ["Examples", "read_examples"]


@dataclass(frozen=True)
class Examples:
    """What hits shall be like, and unlike."""

    like: list[Example]
    unlike: list[Example]

    def nameless(self, text: str) -> str:
        """A message without the paths at which the server holds uploads."""
        for example in (*self.like, *self.unlike):
            if not isinstance(example, Moment):
                text = without_path(text, example.path, "the upload")
        return text


def read_examples(service: Service, served: ServedLibrary, caller: Caller, body: SearchRequest) -> Examples:
    """The examples that a request names.

    Raises:
        Problem: one is no moment of this library, no upload of this caller, or is of the other kind.
    """

    def read(identifier: str) -> Example:
        return _moment(served, identifier) if "@" in identifier else _upload(service, caller, identifier)

    like = [read(identifier) for identifier in body.like]
    for name, kind in (("image", Picture), ("clip", Footage), ("moment", Moment)):
        identifier = getattr(body, name)
        if identifier is not None:
            example = _moment(served, identifier) if kind is Moment else _upload(service, caller, identifier)
            if not isinstance(example, kind):
                raise Problem(422, "the wrong kind of upload", f"{name} names an upload of the other kind")
            like.append(example)
    return Examples(like, [read(identifier) for identifier in body.unlike])


def _moment(served: ServedLibrary, identifier: str) -> Moment:
    try:
        moment = Moment.parse(identifier)
    except QueryError as error:
        raise Problem(422, "no moment", str(error)) from error
    return replace(moment, video=served.media.video(moment.video).id)


def _upload(service: Service, caller: Caller, identifier: str) -> Picture | Footage:
    upload = service.uploads.get(identifier, caller.name)
    return Picture(upload.path) if upload.kind == "image" else Footage(upload.path)
