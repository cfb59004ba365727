"""Values of an address or a form, checked by the API's schemas."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.api.http.problems import field_errors
from app.errors import BadInput

T = TypeVar("T", bound=BaseModel)


def checked(shape: type[T], given: Mapping[str, Any]) -> T:
    """The values as an instance of this schema. Raises BadInput."""
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        found = error.errors()
        for one in found:
            one["loc"] = ("body", *one["loc"])
        raise BadInput(*field_errors(found)) from error
