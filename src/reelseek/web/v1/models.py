"""`/v1/models`: what searches the libraries."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from reelseek.web.problems import AnyJSON
from reelseek.web.service import Reader, ServedLibrary, ServiceOf
from reelseek.web.v1.video_schema import ModelList, ModelRow

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["libraries"])


@router.get("/models", operation_id="list_models", response_model=ModelList)
async def list_models(service: ServiceOf, caller: Reader) -> AnyJSON:
    """The models that search the libraries, and what of these they compare with queries."""
    rows = await run_in_threadpool(lambda: [_model(served) for served in service.libraries(caller)])
    return AnyJSON(ModelList(data=rows).model_dump())


def _model(served: ServedLibrary) -> ModelRow:
    searcher = served.searcher
    model, index = searcher.model, searcher.index
    return ModelRow(
        library=served.name,
        system=model.system,
        fingerprint=model.fingerprint,
        experts=list(index.experts),
        modalities={name: served.modality(name) for name in index.experts},
        slots=list(index.slots) if not model.pairwise and len(index.slots) > 1 else [],
        clips=index.live,
        note=searcher.left_out,
    )
