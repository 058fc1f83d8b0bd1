"""`/v1/models`: what searches the libraries, and what `train` jobs wrote that may do so."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from reelseek.search.index import describe_index
from reelseek.web.models import ModelFacts
from reelseek.web.problems import AnyJSON
from reelseek.web.service import Caller, Reader, ServedLibrary, Service, ServiceOf
from reelseek.web.v1.video_schema import ModelList, ModelRow

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["libraries"])


@router.get("/models", operation_id="list_models", response_model=ModelList)
async def list_models(service: ServiceOf, caller: Reader) -> AnyJSON:
    """The models that search the libraries, with what they compare, and those that jobs trained."""
    rows = await run_in_threadpool(_rows, service, caller)
    return AnyJSON(ModelList(data=rows).model_dump())


def _rows(service: Service, caller: Caller) -> list[ModelRow]:
    names = service.models.names
    trained = [names.facts(name) for name in names.trained()]
    rows = []
    for served in service.libraries(caller):
        rows.append(_default_model(served))
        rows += [_trained_model(served, facts) for facts in trained if facts.name != served.model]
    return rows


def _default_model(served: ServedLibrary) -> ModelRow:
    searcher = served.searcher
    model, index = searcher.model, searcher.index
    return ModelRow(
        library=served.name,
        name=served.model,
        default=True,
        searchable=True,
        system=model.system,
        fingerprint=model.fingerprint,
        experts=list(index.experts),
        modalities={name: served.modality(name) for name in index.experts},
        slots=list(index.slots) if not model.pairwise and len(index.slots) > 1 else [],
        clips=index.live,
        note=searcher.left_out,
    )


def _trained_model(served: ServedLibrary, facts: ModelFacts) -> ModelRow:
    """A model that a job trained, by what its index says of itself."""
    index = None if facts.error else describe_index(served.library, facts.fingerprint)
    experts = list(index["experts"]) if index else []
    slots = list(index["slots"]) if index and not facts.pairwise else []
    return ModelRow(
        library=served.name,
        name=facts.name,
        default=False,
        searchable=index is not None,
        system=facts.system,
        fingerprint=facts.fingerprint,
        experts=experts,
        modalities={name: served.modality(name) for name in experts},
        slots=slots if len(slots) > 1 else [],
        clips=index["clips"] if index else 0,
        note=facts.error or ("" if index else "not indexed; a job of the kind `index` with this model does it"),
    )
