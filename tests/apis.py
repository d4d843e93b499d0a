"""The JSON API over a service of a test."""

from benchlib.application.dataset_service import DatasetService
from benchlib.presentation.api.routes import create_api


def api_over(service):
    """The API, with a dataset service over the same store."""
    return create_api(lambda: service, lambda: DatasetService(service._store))
