"""The shipped cluster file as a user fills it in, and changes to it."""

from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).parents[2] / "cluster.yaml"
FILLED = {
    "region": "us-west-2",
    "zones": "us-west-2a,us-west-2b",
    "ami": "ami-0123456789abcdef0",
    "head_image": "registry.example.org/ray-selfloop:0.1.0-ray2.60.0-cpu",
    "worker_image": "registry.example.org/ray-selfloop:0.1.0-ray2.60.0-gpu",
    "storage": "--env=SELFLOOP_STORAGE=s3://bucket/selfloop",
    "head_profile": "selfloop-head",
    "worker_profile": "selfloop-worker",
}
ABSENT = object()


def text(**other: str) -> str:
    """The shipped file with the lines of `metadata` filled in, and no other line touched."""
    lines = SHIPPED.read_text().splitlines()
    for name, value in {**FILLED, **other}.items():
        [number] = [n for n, line in enumerate(lines) if line.startswith(f"  {name}: &{name} ")]
        lines[number] = f"  {name}: &{name} {value}"
    return "\n".join(lines)


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The filled file's tree with values put at dotted paths; ABSENT takes a key out."""
    tree: dict[str, Any] = yaml.load(text(), _NoSharing)
    for path, value in changes:
        *above, last = path.split(".")
        place: Any = tree
        for key in above:
            place = place[int(key)] if isinstance(place, list) else place[key]
        if value is ABSENT:
            del place[last]
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return tree


class _NoSharing(yaml.SafeLoader):
    """Every alias gets values of its own, so that a change has one place."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            return self.copied(self.anchors[self.get_event().anchor])
        return super().compose_node(parent, index)

    def copied(self, node: yaml.Node) -> yaml.Node:
        """The same values as another node."""
        return yaml.compose(yaml.serialize(node), yaml.SafeLoader)
