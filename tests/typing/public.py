"""What a type checker must object to: `make lint` fails where one of these is no error any more."""

from reelseek import Library, Searcher

Library.open(42)  # type: ignore[arg-type]
Library.open("my.library", nonsense=True)  # type: ignore[call-arg]
Library.open("my.library").no_such_method()  # type: ignore[attr-defined]
Searcher(Library.open("my.library")).search(7)  # type: ignore[arg-type]
