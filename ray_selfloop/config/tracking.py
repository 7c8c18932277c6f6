"""Where MLflow keeps its numbers. Never in a key: tracking changes no result."""

from pydantic import Field, field_validator

from ray_selfloop.config.base import Settings, expanded

_FILE = "sqlite:///"
_SERVERS = ("http://", "https://", "postgresql", "mysql", "mssql", "databricks")


class Tracking(Settings):
    """MLflow tracking."""

    uri: str | None = Field(
        default=None,
        description=(
            "MLflow tracking URI: sqlite:///FILE or a server's http(s):// address. null = a SQLite "
            "file mlflow.db in the storage folder, so that a sweep needs no server."
        ),
    )

    @field_validator("uri")
    @classmethod
    def _known_store(cls, uri: str | None) -> str | None:
        """MLflow no longer writes its old folder store; say so before the sweep starts."""
        if uri is not None and uri.startswith(_FILE):
            return _FILE + expanded(uri.removeprefix(_FILE))
        if uri is None or uri.startswith(_SERVERS):
            return uri
        raise ValueError(
            f"{uri!r} is not a tracking URI; use sqlite:///PATH/mlflow.db or http(s)://HOST:PORT"
        )
