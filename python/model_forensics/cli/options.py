"""Options that several commands share, and what every command has: its configuration and its log."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from model_forensics.config import Config, Loaded
    from model_forensics.errors import ConfigError

EXISTING = click.Path(path_type=Path)  # existence is checked where the error can name a cure
COUNT = click.IntRange(min=1)
POSITIVE = click.FloatRange(min=0, min_open=True)

baseline = click.option(
    "--baseline",
    metavar="PATH",
    type=EXISTING,
    help="A fitted baseline, a benign bundle or a directory of them.",
)
model_factory = click.option(
    "--model-factory", metavar="PKG.MODULE:FUNCTION", help="Build models with this function, called with their source."
)
donor_values = click.option(
    "--donor-values", metavar="FILE", type=EXISTING, help="Activations to write, by site (safetensors)."
)
device = click.option("--device", help="auto, cpu, cuda or cuda:N [auto].")
no_cache = click.option("--no-cache", is_flag=True, help="Compute everything anew.")
force = click.option("--force", is_flag=True, help="Replace output that is there.")
quiet = click.option("--quiet", is_flag=True, help="No progress, and of the log only errors.")

FLAGS = {
    "device": "--device",
    "cache.enabled": "--no-cache",
    "log_level": "--log-level",
    "output_dir": "--output-dir",
    "seed": "--seed",
    "timeout_minutes": "--timeout-minutes",
    "modules.cf.anomaly_threshold": "--threshold",
    "modules.cf.baseline_samples": "--samples",
    "modules.cf.compression_methods": "--methods",
    "modules.cca.beam_width": "--beam-width",
    "modules.cca.donor": "--donor-sample",
    "modules.cca.donor_sample": "--donor-sample",
    "modules.cca.enabled": "--forensics-only",
    "modules.cca.evidence": "--evidence",
    "modules.cca.granularity": "--granularity",
    "modules.cca.max_fix_set_size": "--max-fix-set-size",
    "modules.cca.search_strategy": "--search-strategy",
}
"""The flag that sets a key; where one sets several, for each of them."""
_CONFIGURATION, _LEVEL = (f"model_forensics.{name}" for name in ("configuration", "level"))


def common_with(
    *formats: str, audited: bool = True, mends: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--config`, `--log-level`, `--format`, `--quiet` and `--profile`; the command runs with its log written.

    The command is passed `output_format` and `quiet`; `configuration` gives it the rest.

    Args:
        formats: of `--format`, the default first.
        audited: the command reads or changes bundles, baselines, results or the configuration, so it is an action of
            the audit log where there is one.
        mends: it mends the configuration file, so it runs, by the others' settings, also where that is refused.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(
            *arguments: Any, config_file: Path | None, log_level: str | None, profile: bool, **keywords: Any
        ) -> None:
            context = click.get_current_context()
            context.meta.update({_CONFIGURATION: config_file, _LEVEL: log_level})
            loaded, refusal = _load_or_leave_out_the_file() if mends else (load({}), None)
            with _logged(loaded, quiet=keywords["quiet"]):
                if refusal is not None:
                    _warn(f"the configuration file is left out, because it is refused: {refusal}")
                with _audited(audited, loaded.config), _profiled(profile, loaded.config):
                    function(*arguments, **keywords)

        for option in _common_options(formats):
            wrapped = option(wrapped)
        return wrapped

    return decorate


common = common_with("table", "json")


def _common_options(formats: Sequence[str]) -> tuple[Callable[..., Any], ...]:
    levels = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)
    return (
        click.option("--profile", is_flag=True, help="Show where the time went, and write a Chrome trace."),
        quiet,
        click.option("--format", "output_format", type=click.Choice(formats), default=formats[0], show_default=True),
        click.option("--log-level", type=levels, help="Log lines of this level and above are written [INFO]."),
        click.option(
            "--config",
            "config_file",
            metavar="FILE",
            type=EXISTING,
            help="The configuration file [the one in MODEL_FORENSICS_CONFIG].",
        ),
    )


def cache_settings(no_cache: bool) -> dict[str, Any]:
    """The section `cache` that `--no-cache` asks for."""
    return {"enabled": False if no_cache else None}


def configuration(settings: Mapping[str, Any] | None = None) -> Config:
    """The configuration of this command: its flags over the environment over the file over the defaults.

    Args:
        settings: what the command's own options ask for, in the configuration's shape; None is left out.

    Raises:
        UsageError: a flag's value is not allowed.
        ConfigError: the file or the environment is refused; names the place.
    """
    return load(settings or {}).config


def load(settings: Mapping[str, Any]) -> Loaded:
    """As `configuration`, with the origin of every value."""
    from model_forensics.config import Flag, load_config  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.config.keys import flat  # noqa: PLC0415
    from model_forensics.errors import ConfigError, UsageError  # noqa: PLC0415

    meta = click.get_current_context().meta
    given = {"log_level": meta.get(_LEVEL), **flat(settings)}
    flags = {key: Flag(FLAGS[key], value) for key, value in given.items() if value is not None}
    try:
        return load_config(meta.get(_CONFIGURATION), flags=flags)
    except ConfigError as error:
        if error.where in FLAGS.values():
            raise UsageError(error.what, where=error.where, cure="See the command's --help") from error
        raise


def configuration_file() -> Path | None:
    """The configuration file that this command was given, or that `MODEL_FORENSICS_CONFIG` names; it may be broken."""
    from model_forensics.config.variables import CONFIG, stated  # noqa: PLC0415  (keeps --help fast)

    given: Path | None = click.get_current_context().meta.get(_CONFIGURATION)
    named = stated(os.environ).get(CONFIG)
    return given or (None if named is None else Path(named).expanduser())


def _load_or_leave_out_the_file() -> tuple[Loaded, ConfigError | None]:
    """As `load`; where the file is refused, what the environment and the flags say, and the refusal."""
    from model_forensics.config import Flag, load_config  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.config.variables import CONFIG  # noqa: PLC0415
    from model_forensics.errors import ConfigError  # noqa: PLC0415

    try:
        return load({}), None
    except ConfigError as refusal:
        level = click.get_current_context().meta.get(_LEVEL)
        flags = {} if level is None else {"log_level": Flag(FLAGS["log_level"], level)}
        others = {name: value for name, value in os.environ.items() if name != CONFIG}
        return load_config(environment=others, flags=flags), refusal


def _warn(text: str) -> None:
    from model_forensics.logs import LOGGER  # noqa: PLC0415  (keeps --help fast)

    LOGGER.warning(text)


@contextmanager
def _audited(wanted: bool, config: Config) -> Iterator[None]:
    """The body is an action of the audit log where there is one; what is not imported without one stays so."""
    if not wanted or config.audit_log is None:
        yield
        return
    from model_forensics.pipeline.bookkeeping import auditing  # noqa: PLC0415  (only where it is wanted)

    with auditing(config, str(click.get_current_context().info_name)):
        yield


@contextmanager
def _profiled(wanted: bool, config: Config) -> Iterator[None]:
    """The body is profiled: a new trace in `output_dir`, and tables on standard error."""
    if not wanted:
        yield
        return
    from model_forensics.cli.profile_tables import print_tables  # noqa: PLC0415  (only where it is wanted)
    from model_forensics.profile import profiled  # noqa: PLC0415

    command = click.get_current_context().info_name
    trace = config.output_dir / f"profile-{command}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.json"
    recording = None
    try:
        with profiled(trace) as recording:
            yield
    finally:
        if recording is not None and recording.result is not None:
            print_tables(recording.result, trace)


@contextmanager
def _logged(loaded: Loaded, *, quiet: bool) -> Iterator[None]:
    from model_forensics import logs  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.config.variables import secrets_of_process, unknown  # noqa: PLC0415
    from model_forensics.errors import ModelForensicsError  # noqa: PLC0415

    config = loaded.config
    level = config.log_level
    if config.log_file is None and (quiet or not loaded.is_stated("log_level")):
        level = "ERROR" if quiet else "WARNING"
    rotation = config.log_rotation
    with logs.configured(
        level=level,
        file=config.log_file,
        as_json=config.log_format == "json",
        max_bytes=rotation.size,
        keep=rotation.keep,
        secrets=secrets_of_process,
    ):
        for name, near in unknown(os.environ).items():
            meant = "" if near is None else f"; did you mean {near}?"
            logs.LOGGER.warning("the environment variable %s is none of model-forensics%s", name, meant)
        try:
            yield
        except ModelForensicsError as error:
            if config.log_file is not None:  # standard error gets it anyway
                logs.LOGGER.error("%s: %s", type(error).__name__, error)
            raise


def forensics_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--threshold`, `--methods`: how forensics judges."""
    for option in (
        click.option("--threshold", type=POSITIVE, help="Sites above this many sigma are anomalous."),
        click.option("--methods", metavar="LIST", help="Comma-separated: zlib, gzip, arithmetic."),
    ):
        function = option(function)
    return function


def forensics_settings(threshold: float | None, methods: str | None) -> dict[str, Any]:
    """The `modules.cf` section that these options ask for."""
    section: dict[str, Any] = {}
    if threshold is not None:
        section["anomaly_threshold"] = threshold
    if methods is not None:
        section["compression_methods"] = [name.strip() for name in methods.split(",")]
    return section


def contradiction(flag: str, others: dict[str, Any]) -> None:
    """Refuse options that another one makes meaningless.

    Raises:
        UsageError: some of `others` (name → value) were given; names them.
    """
    from model_forensics.errors import UsageError  # noqa: PLC0415  (keeps --help fast)

    given = [name for name, value in others.items() if value]
    if given:
        raise UsageError(f"{flag} contradicts {', '.join(given)}", cure="Leave one of them out")
