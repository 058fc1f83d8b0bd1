"""What a type checker must object to: `make lint` fails where one of these is no error any more."""

from pathlib import Path

from reelseek import SYSTEMS, Library, Searcher, load_model, read_recipe, train
from reelseek.losses import CombinatorialLoss
from reelseek.models import System

Library.open(42)  # type: ignore[arg-type]
Library.open("my.library", nonsense=True)  # type: ignore[call-arg]
Library.open("my.library").no_such_method()  # type: ignore[attr-defined]
Searcher(Library.open("my.library")).search(7)  # type: ignore[arg-type]
load_model(42)  # type: ignore[arg-type]
SYSTEMS["mine"] = 7  # type: ignore[assignment]
System(config=dict, create=7)  # type: ignore[arg-type]
CombinatorialLoss(temperature="cold")  # type: ignore[arg-type]

# What it must not object to: a path is a str or a Path, texts are one string or several.
model = load_model(Path("my.model"))
model.encode_texts("a cat")
model.encode_texts(["a cat", "a dog"])
model.save("other.model")
train(read_recipe("r.toml"), Library.open(Path("my.library")), "my.model")
Searcher(Library.open("my.library"), model=Path("my.model"))
