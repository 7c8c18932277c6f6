"""The base of every settings model: frozen, and a misspelt key is an error."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings. Every default of the program lives on a field of such a class."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
