"""From a name or a path to a Model. Reads files and the catalog; only ``hf:`` touches the network."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.units import whole
from tierwise.models.jsonfile import LARGEST, parse_json, read_json
from tierwise.models.names import applied, read_name
from tierwise.models.types import Model

CATALOG = Path(__file__).parent / "catalog"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_SPOKEN = re.compile(r"^([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.:-]*$")
_AS = re.compile(r"^(?P<model>.*)#as=(?P<kind>[\w.-]+)$", re.DOTALL)
LARGEST_DIM = (1 << 32) - 1  # of a graph's tensors
_TIMEOUT = 20.0  # seconds
_HINT = "Also accepted: a path to config.json, *.gguf, *.safetensors, *.onnx, or hf:org/name."


def load_model(spec: str | Path | Model, image_size: float | None = None) -> Model:
    """The model of a catalog name, a path, or ``hf:org/name``; a Model passes through.

    Names are looked up by catalog file first (``llama-3.1-8b``, any case), then as a path, then by alias
    (``meta-llama/Llama-3.1-8B``), then by what people make of them (:mod:`tierwise.models.names`). A
    folder is read through its ``config.json`` and, beside it, ``hf_quant_config.json``. ``…#as=TYPE`` reads a
    configuration as another ``model_type``.
    A graph's sizes follow its path: ``model.onnx:height=384,width=512``.

    Args:
        image_size: pixels a side, for graphs, whose nodes hold for one size (other models take it with the traffic).

    Raises:
        UnknownName: neither in the catalog nor a file; names the nearest.
        BadField, Truncated, TierwiseError: a file that cannot be understood.
    """
    return _loaded(spec, spoken=True, image_size=image_size)


def exact_model(spec: str | Path | Model) -> Model:
    """As :func:`load_model`, but of names only those the catalog has."""
    return _loaded(spec, spoken=False)


def _loaded(spec: str | Path | Model, spoken: bool, image_size: float | None = None) -> Model:
    if isinstance(spec, Model):
        return spec
    text, kind = split_as(str(spec).strip())
    if text.startswith("hf:"):
        return _from_hub(text[3:], kind)
    if entry := _entry(text):
        return _from_catalog(entry, kind)
    if text and (path := Path(text).expanduser()).exists():
        return _graph(text, "", image_size) if path.suffix == ".onnx" else _from_path(path, kind)
    name, colon, sizes = text.partition(".onnx:")
    if colon and Path(name + ".onnx").expanduser().is_file():
        return _graph(name + ".onnx", sizes, image_size)
    if entry := _aliased(text):
        return _from_catalog(entry, kind)
    likely = spoken and _SPOKEN.match(text) and not _looks_like_path(text)
    if likely and (reading := read_name(text, _names(), _Sizes())):
        return applied(_from_catalog(CATALOG / f"{reading.entry}.json", kind), text, reading)
    if _looks_like_path(text):
        raise TierwiseError(f"{text}: no such file or folder")
    raise UnknownName("model", text, [*model_names(), *_aliases()], _HINT)


def split_as(spec: str) -> tuple[str, str | None]:
    """(a model, the ``model_type`` it is to be read as or None) of ``MODEL#as=TYPE``."""
    match = _AS.match(spec)
    return (match["model"], match["kind"]) if match else (spec, None)


def spelled_as(spec: str, kind: str | None) -> str:
    """A model's name or path with the ``model_type`` it is to be read as; None leaves what it says."""
    return spec if kind is None else f"{split_as(spec)[0]}#as={kind}"


def model_names() -> list[str]:
    """Every name of the catalog."""
    return sorted(path.stem for path in CATALOG.glob("*.json"))


def _entry(name: str) -> Path | None:
    path = CATALOG / f"{name.lower()}.json"
    return path if _NAME.match(name) and path.is_file() else None


def _aliased(name: str) -> Path | None:
    return _aliases().get(name.lower())


def _aliases() -> dict[str, Path]:
    """Every alias of the catalog, in lower case."""
    out: dict[str, Path] = {}
    for path in sorted(CATALOG.glob("*.json")):
        for alias in _aliases_in(path):
            out[str(alias).lower()] = path
    return out


def _names() -> dict[str, Sequence[str]]:
    """Aliases of every entry."""
    return {p.stem: _aliases_in(p) for p in sorted(CATALOG.glob("*.json"))}


def _aliases_in(path: Path) -> tuple[str, ...]:
    return _aliases_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _aliases_of(path: Path, changed: int) -> tuple[str, ...]:
    """Aliases of an entry, read once as long as its file stays as it is: each name not found asks for all of them."""
    found = read_json(path).get("aliases", [])
    return tuple(str(a) for a in found) if isinstance(found, list) else ()


class _Sizes(Mapping[str, float]):
    """Parameters of entries, counted when asked for."""

    def __getitem__(self, name: str) -> float:
        return float(_from_catalog(CATALOG / f"{name}.json").parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(model_names())

    def __len__(self) -> int:
        return len(model_names())


def _from_catalog(path: Path, kind: str | None = None) -> Model:
    return _built(path, path.stat().st_mtime_ns, kind)


@lru_cache(maxsize=32)
def _built(path: Path, changed: int, kind: str | None) -> Model:
    """A catalog entry as a model, built once as long as its file stays as it is: each technique asks for it anew."""
    from tierwise.models.hf import from_config

    entry = read_json(path)
    where = f"catalog/{path.name}"
    for field, kind_of in (("config", dict), ("source", str), ("aliases", list)):
        if not isinstance(entry.get(field, [] if field == "aliases" else None), kind_of):
            allowed = {"config": "a mapping", "source": "text", "aliases": "a list of names"}[field]
            raise BadField(where, field, entry.get(field), allowed)
    return from_config(entry["config"], where, entry.get("quant"), path.stem, entry["source"], read_as=kind)


def _from_path(path: Path, kind: str | None) -> Model:
    if path.is_dir():
        return _from_folder(path, kind)
    if path.suffix == ".json" and not path.name.endswith(".safetensors.index.json"):
        return _from_json(path, path.resolve().parent.name if path.stem == "config" else path.stem, kind)
    if kind is not None:
        raise TierwiseError(f"{path}: --as reads a configuration (config.json) as another type; this file says its own")
    return _imported("safetensors" if path.suffix == ".json" else path.suffix[1:].lower(), path)


def _graph(path: str, sizes: str, image_size: float | None) -> Model:
    """An ONNX graph at sizes written as ``height=384,width=512``."""
    from tierwise.models.importers import onnx

    found = {} if image_size is None else {"image": int(image_size)}
    for part in filter(None, sizes.split(",")):
        name, _, value = part.partition("=")
        if not whole(value, LARGEST_DIM):
            allowed = f"NAME=SIZE,… with sizes from 1 to {LARGEST_DIM:,}"
            raise TierwiseError(f"{path}:{sizes}: found {part!r}; allowed: {allowed}")
        found[name.strip()] = whole(value, LARGEST_DIM)
    return onnx.read(str(Path(path).expanduser()), found)


def _from_folder(path: Path, kind: str | None) -> Model:
    if (path / "config.json").is_file():
        return _from_json(path / "config.json", path.resolve().name, kind)
    if (path / "model_index.json").is_file():
        return _imported("diffusers", path / "model_index.json")
    for pattern in ("*.gguf", "*.safetensors.index.json", "*.safetensors", "*.onnx"):
        if found := sorted(path.glob(pattern)):
            return _from_path(found[0], kind)
    raise TierwiseError(f"{path}: a folder without config.json, *.gguf, *.safetensors or *.onnx")


def _from_json(path: Path, name: str, kind: str | None) -> Model:
    from tierwise.models.hf import from_config

    beside = path.with_name("hf_quant_config.json")
    quant = read_json(beside) if beside.is_file() else None
    return from_config(read_json(path), str(path), quant, name, read_as=kind)


def _imported(suffix: str, path: Path) -> Model:
    """Through the importer named like the suffix."""
    module = f"tierwise.models.importers.{suffix}"
    if not suffix.isidentifier() or importlib.util.find_spec(module) is None:
        raise TierwiseError(f"{path}: cannot read {suffix or 'files without a suffix'!r}. {_HINT}")
    model: Model = importlib.import_module(module).read(str(path))
    return model


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith((".json", ".gguf", ".safetensors", ".onnx"))


def _from_hub(name: str, kind: str | None) -> Model:
    """The configuration of a model on the Hugging Face hub; weights are never fetched."""
    from tierwise.models.hf import from_config

    name, _, revision = name.partition("@")
    if not _HUB_NAME.match(name):
        raise TierwiseError(f"hf:{name}: expected hf:organisation/model, optionally @revision")
    base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{base}/{name}/resolve/{revision or 'main'}/"
    config = _fetched(url + "config.json", f"hf:{name}")
    if config is None:
        raise TierwiseError(f"hf:{name}: the hub has no config.json for it")
    quant = _fetched(url + "hf_quant_config.json", f"hf:{name}")
    return from_config(config, f"hf:{name}", quant, name.split("/")[1], read_as=kind)


def _fetched(url: str, where: str) -> Any:
    """A JSON file of the hub, or None when there is none."""
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    if not url.startswith(("https://", "http://")):
        raise TierwiseError(f"{where}: HF_ENDPOINT must be an http(s) address")
    try:
        with urlopen(url, timeout=_TIMEOUT) as reply:
            data = reply.read(LARGEST + 1)
    except HTTPError as error:
        if error.code == 404:
            return None
        gated = ": gated or private; give the path of its config.json" if error.code in (401, 403) else ""
        raise TierwiseError(f"{where}: the hub answered {error.code} {error.reason}{gated}") from None
    except (URLError, OSError, TimeoutError) as error:
        raise TierwiseError(f"{where}: the hub cannot be reached: {error}") from None
    if len(data) > LARGEST:
        raise TierwiseError(f"{where}: the file has more than {LARGEST} bytes")
    return parse_json(data, url)
