"""What is written of a deployment, before it is text: pools of equal engines, their router, an engine's facts."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import yaml

from tierwise import engines as folders
from tierwise.core.errors import UnknownName
from tierwise.launch.asked import asked
from tierwise.serving.deployment import Deployment, Replicas

# Addresses of engines by the role of their group.
Urls = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Router:
    """What takes requests and spreads them over engines.

    Attributes:
        argv: its command; ``files`` by name what the command reads from ``${CONFIG_DIR}``.
        install: its package is installed first (:func:`facts` names package and version); False: it is in the
            engine's image.
    """

    argv: tuple[str, ...]
    install: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LaunchGroup:
    """Equal engines of one group, ready to write.

    Attributes:
        name: unique in the deployment: ``server``, ``prefill``, ``decode``, with a number where groups share a role.
        group: as asked; ``count`` engines of it.
        nodes, local: nodes of one engine and its devices on each.
        argv, worker: commands of the first node and of the others (empty where there is one).
        files: by name what the commands read from ``${CONFIG_DIR}``.
        missing: sentences on what the commands do not say.
    """

    name: str
    group: Replicas
    nodes: int
    local: int
    argv: tuple[str, ...]
    worker: tuple[str, ...]
    files: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def count(self) -> int:
        return self.group.count


def engines() -> list[str]:
    """Engines launch files can be written for: every folder of :mod:`tierwise.engines` with a ``launch.py``."""
    return sorted(folders.launchable())


def engine(name: str) -> ModuleType:
    """The module of an engine.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in engines():
        raise UnknownName("serving engine", name, engines())
    return importlib.import_module(f"{folders.__name__}.{name}.launch")


def dump(*documents: Any) -> str:
    """YAML as a person writes it: keys in our order, nothing by reference."""
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=120)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@functools.cache
def facts(name: str) -> Mapping[str, Any]:
    """What an engine's own documentation says of its arguments: ``flags.yaml`` in its folder."""
    found = yaml.safe_load((folders.HERE / name / "flags.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def pools(deployment: Deployment, name: str, model: str) -> list[LaunchGroup]:
    """The deployment's groups as engine ``name`` runs them."""
    module = engine(name)
    reshape = getattr(module, "reshape", lambda _, group: group)
    groups = [reshape(deployment, group) for group in deployment.groups]
    roles = [_word(g) for g in groups]
    out = []
    for i, group in enumerate(groups):
        number = f"-{roles[: i + 1].count(roles[i])}" if roles.count(roles[i]) > 1 else ""
        want = asked(deployment.model, group)
        config = f"{roles[i]}{number}.yaml"
        command = functools.partial(module.command, deployment, group, model=model, config=config)
        options = getattr(module, "options", lambda *_: None)(deployment, group)
        out.append(
            LaunchGroup(
                roles[i] + number, group, want.nodes, want.local, tuple(command()),
                tuple(command(worker=True)) if want.nodes > 1 else (),
                {} if options is None else {config: dump(options)},
                tuple(module.missing(deployment, group)),
            )
        )  # fmt: skip
    return out


def addresses(found: Sequence[LaunchGroup], of: Mapping[str, Sequence[str]]) -> Urls:
    """Addresses of pools (``of`` by pool name), by role."""
    out: dict[str, list[str]] = {}
    for pool in found:
        out.setdefault(pool.group.role, []).extend(of[pool.name])
    return out


def disaggregated(deployment: Deployment) -> bool:
    """Whether some engines only prefill and others only decode."""
    return {g.role for g in deployment.groups} >= {"prefill", "decode"}


def as_engine(deployment: Deployment, name: str) -> Deployment:
    """The deployment with engine ``name`` in every group."""
    return replace(
        deployment,
        groups=tuple(replace(g, settings=replace(g.settings, engine=name)) for g in deployment.groups),
    )


def _word(group: Replicas) -> str:
    return "server" if group.role == "both" else group.role
