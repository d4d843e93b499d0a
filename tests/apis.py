"""The JSON API over a service of a test."""

from contextvars import ContextVar
from functools import cache

from benchlib.application.dataset_service import DatasetService
from benchlib.presentation.api.routes import create_api

_SERVICE = ContextVar("the service that the request is for")


@cache
def _api():
    """One for all tests of a process: to build it takes longer than most tests do."""
    return create_api(_SERVICE.get, lambda: DatasetService(_SERVICE.get()._store))


def api_over(service):
    """The API as an ASGI app, with a dataset service over the same store."""

    async def app(scope, receive, send):
        _SERVICE.set(service)
        await _api()(scope, receive, send)

    return app


def api_paths():
    """What the API says of its routes: path -> method -> description."""
    return _api().openapi()["paths"]
