"""Writing a deployment's launch files into a folder: every file whole, or none."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tierwise.core.errors import BadField, TierwiseError
from tierwise.launch import readme
from tierwise.launch.files import LaunchGroup, addresses, as_engine, engine, engines, pools
from tierwise.launch.shell import local_urls, router_script, script
from tierwise.launch.targets import targets
from tierwise.serving.deployment import Deployment
from tierwise.serving.room import fitted

# Lists what an earlier call wrote, so that a file the new deployment has no use for does not stay behind.
LIST = ".tierwise.json"


def write(
    deployment: Deployment,
    out: Path,
    *,
    model_name: str,
    predicted: Mapping[str, object] | None = None,
    only: Iterable[str] | None = None,
) -> list[Path]:
    """Write launch files of ``deployment``: a folder an engine, and a README.md of what was predicted.

    Args:
        out: folder, made where it does not exist; files of an earlier call are replaced, others are left alone.
        model_name: name or path by which the engine loads the model, such as ``Qwen/Qwen3-32B-FP8``.
        predicted: what the README says; see ``docs/launch.md`` for the keys it knows.
        only: engines to write for; by default all that are known.

    Returns:
        The files, README first.

    Raises:
        TierwiseError: a folder that cannot be written, a deployment no command can say (degrees that are arrays or
            beyond the machine, a group that prefills with none that decodes).
        UnknownName: an engine that is not known.
    """
    _check(deployment, model_name)
    own = deployment.groups[0].settings.engine
    chosen = list(only) if only is not None else sorted(engines(), key=lambda name: (name != own, name))
    files: dict[str, str] = {}
    written: dict[str, list[LaunchGroup]] = {}
    for name in chosen:
        # Another engine leaves caches another room, and none starts with a request that does not fit.
        found = pools(fitted(as_engine(deployment, name)), name, model_name)
        written[name] = found
        for path, text in _engine_files(deployment, found, name, model_name).items():
            files[f"{name}/{path}"] = text
    texts = {"README.md": readme.text(deployment, written, model_name, predicted, sorted(files)), **files}
    place(out, texts)
    return [out / path for path in texts]


def _engine_files(deployment: Deployment, found: list[LaunchGroup], name: str, model: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for pool in found:
        out[f"serve-{pool.name}.sh"] = script(pool, name)
        out.update(pool.files)
    router = engine(name).router(deployment, addresses(found, local_urls(found, name)), port=str(engine(name).PORT))
    if router is not None:
        out["router.sh"] = router_script(router, name)
        out.update(router.files)
    for target in targets():
        whole = target.text(deployment, found, name, model)
        if whole is not None:
            out[target.FILE] = whole
    return out


def _check(deployment: Deployment, model_name: str) -> None:
    if not model_name.strip() or any(ord(c) < 32 for c in model_name):
        raise BadField("launch files", "model_name", model_name, "a name or path on one line")
    if model_name.startswith("-"):
        raise BadField("launch files", "model_name", model_name, "a name that does not start with '-'")
    roles = {g.role for g in deployment.groups}
    if not deployment.groups:
        raise BadField("launch files", "deployment.groups", (), "at least one group of replicas")
    if roles not in ({"both"}, {"prefill", "decode"}):
        raise BadField("launch files", "deployment.groups", sorted(roles), "only both, or prefill and decode")
    for group in deployment.groups:
        if group.count < 1:
            raise BadField("launch files", "replicas.count", group.count, "at least 1")


def place(out: Path, texts: Mapping[str, str]) -> None:
    """Write every file beside its place first, then move all of them there."""
    if out.exists() and not out.is_dir():
        raise TierwiseError(f"{out}: is a file; give a folder for launch files")
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=out, prefix=".writing-"))
    except OSError as e:
        raise TierwiseError(f"{out}: cannot write launch files: {e.strerror}") from None
    try:
        everything = {**texts, LIST: json.dumps(sorted(texts), indent=1) + "\n"}
        for path, text in everything.items():
            target = staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(0o755 if path.endswith(".sh") else 0o644)
        stale = [p for p in _earlier(out) if p not in texts]
        for path in everything:
            (out / path).parent.mkdir(exist_ok=True)
            os.replace(staging / path, out / path)
        for path in stale:
            (out / path).unlink(missing_ok=True)
    except OSError as e:
        raise TierwiseError(f"{e.filename or out}: cannot write launch files: {e.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _earlier(out: Path) -> list[str]:
    """Files an earlier call wrote, those only that are still where it put them."""
    try:
        names = json.loads((out / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(names, list):
        return []
    inside = [n for n in names if isinstance(n, str) and ".." not in Path(n).parts and not Path(n).is_absolute()]
    return [n for n in inside if (out / n).is_file() and not (out / n).is_symlink()]
