"""Loading a model from a directory, a hub id or the operator's own factory."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_forensics.errors import BundleFormatError, ModelError, UsageError
from model_forensics.files import read_json
from model_forensics.models.model import Model

_DEVICE = re.compile(r"^(auto|cpu|cuda(:\d{1,3})?)$")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
)
_FROM_4_56 = (4, 56)  # transformers' keyword for the dtype changed its name here


def load_model(
    source: str | Path | None = None,
    *,
    factory: str | None = None,
    device: str = "auto",
    local_files_only: bool = False,
    trust_remote_code: bool = False,
) -> Model:
    """Loads a model in evaluation mode, in the dtype in which it is stored.

    Args:
        source: a local directory or a hub id, loaded with transformers from safetensors files only.
        factory: `pkg.module:function`; it is called with `source` (or None) and returns a module, or a module and
            a tokenizer. Only the operator may name one: a bundle never can.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`.
        local_files_only: never ask the hub.
        trust_remote_code: run code that comes with the model. The operator's own decision, never a bundle's.

    Raises:
        UsageError: neither source nor factory; a factory that is not `pkg.module:function` or does not exist; a
            device that is not there.
        ModelError: the model cannot be loaded: not found, no safetensors, missing weights, transformers not installed.
    """
    target = _device(device)
    name = None if source is None else str(source)
    if factory is not None:
        module, tokenizer = _from_factory(factory, name)
    elif name is not None:
        module, tokenizer = _from_transformers(name, local_files_only, trust_remote_code)
    else:
        raise UsageError("no model is named", cure="Give a directory, a hub id, or a factory")
    stock = factory is None and not trust_remote_code
    return Model(module.to(target).eval(), source=name, factory=factory, tokenizer=tokenizer, stock=stock)


def _device(name: str) -> torch.device:
    if not _DEVICE.match(name):
        raise UsageError(f"{name!r} is no device", cure="Use auto, cpu, cuda or cuda:1")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():  # torch.device wraps large numbers
        raise UsageError(
            f"there is no device {name}: torch sees {torch.cuda.device_count()} GPUs", cure="Use auto or cpu"
        )
    return torch.device(name)


def _from_factory(spec: str, source: str | None) -> tuple[nn.Module, object | None]:
    path, separator, attribute = spec.partition(":")
    if not separator or not path or not attribute:
        raise UsageError("a model factory is written pkg.module:function", where=spec, cure="Name it like that")
    try:
        package = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(f"{error.name}.")):
            raise  # the factory's own code misses something: its traceback says more than we could
        raise UsageError(
            f"there is no module {error.name!r}", where=spec, cure="Put its directory on PYTHONPATH"
        ) from error
    function: Any = package
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise UsageError(f"{path} has no function {attribute!r}", where=spec, cure="Check the name after the colon")
    built = function(source)
    module, tokenizer = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"the factory returned {type(module).__name__}", where=spec, cure="Return a module, or (module, tokenizer)"
        )
    return module, tokenizer


def _from_transformers(source: str, local_files_only: bool, trust_remote_code: bool) -> tuple[nn.Module, object | None]:
    transformers = _transformers(source)
    directory = Path(source)
    if directory.is_dir():
        _check_directory(directory)
    elif directory.is_absolute() or source.startswith((".", "~")) or directory.exists():
        raise ModelError("there is no such model directory", where=source, cure="Check the path")
    options: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        model_class = _model_class(transformers, config, source, trust_remote_code)
        with without_progress_bar(transformers):
            module, loading = model_class.from_pretrained(
                source,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                **{_dtype_keyword(transformers): "auto"},
                **options,
            )
    except _loading_errors() as error:
        raise ModelError(
            f"transformers cannot load the model: {_first_line(error)}",
            where=source,
            cure=_cure(error, local_files_only),
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ModelError(
            f"the files lack {len(missing)} weights, the first is {missing[0]}",
            where=source,
            cure="Take a checkpoint of this architecture, or use a model factory",
        )
    return module, _tokenizer(transformers, source, directory, options)


def _transformers(source: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise ModelError(
            "transformers is not installed",
            where=source,
            cure='Install it with pip install "model-forensics[hf]", or use a model factory',
        ) from error


def _loading_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise on missing, broken or contradictory files: `config.json` can hold anything."""
    strict = getattr(importlib.import_module("huggingface_hub.errors"), "StrictDataclassError", ValueError)
    safetensors_error = importlib.import_module("safetensors").SafetensorError
    return (OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError, safetensors_error, strict)


def _check_directory(directory: Path) -> None:
    cure = "Give a directory written by save_pretrained, or use a model factory"
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError("the directory has no config.json", where=directory, cure=cure)
    try:
        config = read_json(path)
    except BundleFormatError as error:
        raise ModelError(f"config.json cannot be read: {error.what}", where=directory, cure=cure) from error
    if not isinstance(config, dict):
        raise ModelError("config.json holds no configuration", where=path, cure=cure)
    if any(directory.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in directory.glob(pattern))
    what = f"only pickled weights ({pickles[0]}), which can run code when loaded" if pickles else "no weights"
    raise ModelError(
        f"the directory holds {what}",
        where=directory,
        cure="Convert it where it is trusted: load it there and save_pretrained(..., safe_serialization=True)",
    )


def _model_class(transformers: Any, config: Any, source: str, trust_remote_code: bool) -> Any:
    """The class that the checkpoint was saved from; code that comes with a model only when the operator trusts it."""
    remote = getattr(config, "auto_map", None) or {}
    if trust_remote_code and remote:
        auto = next((name for name in remote if name.startswith("AutoModel")), None)
        if auto is not None:
            return getattr(transformers, auto)
    architectures = getattr(config, "architectures", None) or []
    model_class = getattr(transformers, str(architectures[0]), None) if architectures else None
    if not (isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)):
        named = f"architecture {architectures[0]}" if architectures else "no architecture"
        raise ModelError(
            f"config.json names {named}, which the installed transformers does not have",
            where=source,
            cure="Upgrade transformers, or build the model with a factory of your own (--model-factory)",
        )
    return model_class


def _tokenizer(transformers: Any, source: str, directory: Path, options: dict[str, Any]) -> object | None:
    if directory.is_dir():
        if not any((directory / name).is_file() for name in _TOKENIZER_FILES):
            return None
        try:
            tokenizer: object = transformers.AutoTokenizer.from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the tokenizer cannot be loaded: {_first_line(error)}",
                where=source,
                cure="Repair its files, or remove them to load the model alone",
            ) from error
        return tokenizer
    try:
        from_hub: object = transformers.AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        # vision models on the hub have none, and only trying tells
        warnings.warn(f"{source}: loaded without a tokenizer ({_first_line(error)})", stacklevel=4)
        return None
    return from_hub


@contextmanager
def without_progress_bar(transformers: Any) -> Iterator[None]:
    """Nothing of transformers draws meanwhile: progress is the caller's to show."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _dtype_keyword(transformers: Any) -> str:
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= _FROM_4_56 else "torch_dtype"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _cure(error: Exception, local_files_only: bool) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "Its code is not run; build the model with a factory of your own (--model-factory)"
    if "safetensors" in text:
        return "Use a model that has safetensors files; pickled weights are never loaded"
    if local_files_only:
        return "Check the name, or download the model first; local_files_only forbids asking the hub"
    return "Check the name, the network and that the files are complete"
