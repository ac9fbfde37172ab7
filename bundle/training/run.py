"""Training configurations of the bundle, run from the command line."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bida.errors import BidaError, SettingsError, cause_of, plain_errors
from bida.io.claim import scratch
from bida.io.files import unless_empty
from bida.progress import log_values
from bida.shipped import shipped

# what a value of the wrong kind makes of a configuration
MISTAKES = (NameError, LookupError, AttributeError, ImportError, SyntaxError, TypeError, ValueError, ArithmeticError)
RUN = {"imports", "initialize", "training", "finalize"}  # what the workflow itself looks for


def run_training(
    released: Sequence[str],
    configs: Sequence[str],
    assignments: Sequence[str],
    fixed: Mapping[str, Any],
    settable: int = 1,
) -> None:
    """Run a training configuration.

    Args:
        released: Configurations of the bundle.
        configs: The user's, to lie over them. A configuration is code: text that begins with ``$`` is run.
        assignments: ``name=value`` over all of them, as in a configuration.
        fixed: Values that go before all. None is ever run as code: paths are given as `Path`, which the parser leaves
            alone whatever they begin with.
        settable: How many of the released configurations, the last ones, hold the names that may be set.

    Raises:
        SettingsError: A configuration is missing or none, or a name is unknown or has no use.
    """
    from monai.bundle import ConfigParser, ConfigWorkflow

    from bida.training.start import alone

    given = {config: read_config(config) for config in configs}
    own = [str(shipped("configs") / name) for name in released]
    overrides = dict(override(text) for text in assignments)
    # a file that lies over another one may name parts of it, train#dataset
    named = [*map(ConfigParser.load_config_file, own[-settable:]), *given.values()]
    known = {name.split("#")[0] for one in named for name in one}
    unknown = sorted(name for name in overrides if name.replace("::", "#").split("#")[0] not in known)
    if unknown:
        raise SettingsError(
            f"--set: must name a value of the configuration, got {', '.join(unknown)}; "
            f"see {' and '.join(released[-settable:])}"
        )
    with scratch("train") as folder:
        written = []
        for number, (config, content) in enumerate(given.items()):  # MONAI's reader takes 1e-4 for a text
            written.append(str(folder / f"{number}.yaml"))
            Path(written[-1]).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
            with config_errors([config]):
                ConfigParser.load_config_files([*own, *written])
        whole = ConfigParser.load_config_files([*own, *written])
        for config, content in given.items():
            check_used(config, content, whole)
        check_used("--set", overrides, whole)
        plain = {name: value for name, value in whole.items() if not isinstance(value, dict | list)}
        log_values("configuration", plain | overrides | dict(fixed))
        literal = {name: as_literal(value) for name, value in fixed.items()}
        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # says that they lie in two folders
        with worker_errors(), plain_errors(), config_errors([*configs, *(f"--set {name}" for name in overrides)]):
            workflow = ConfigWorkflow(
                [*own, *written], workflow_type="train", run_id="training",
                logging_file=str(shipped("configs") / "logging.conf"), **overrides | literal,
            )  # fmt: skip
            logging.getLogger("ignite.engine").setLevel(logging.CRITICAL)  # what ends a run is told once, below
            with unless_empty(fixed["output_dir"]), alone(fixed["output_dir"]):
                workflow.initialize()
                workflow.run()
                workflow.finalize()


def as_literal(value: Any) -> Any:
    """Return a value that MONAI's parser leaves as it is: texts, which may begin with ``$`` or ``@``, as paths."""
    if isinstance(value, list | tuple):
        return [as_literal(one) for one in value]
    return Path(value) if isinstance(value, str) else value


class ConfigLoader(yaml.SafeLoader):
    """YAML as configurations are written: 1e-4 is a number (YAML 1.1 wants 1.0e-4), a name stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, merge keys (``<<``) filled in."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, key in enumerate(keys):
            if key.value in {before.value for before in keys[:number]}:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
        return super().construct_mapping(node, deep)


ConfigLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_config(path: str) -> dict[str, Any]:
    """Read a configuration, YAML or JSON.

    Raises:
        SettingsError: It is missing or none.
    """
    if not Path(path).is_file():
        raise SettingsError(f"{path}: a configuration must exist, nothing is there; check --config")
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8-sig"), ConfigLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "")
        raise SettingsError(f"{path}: a configuration must be YAML or JSON, got '{reason}'; correct it") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise SettingsError(
            f"{path}: a configuration must be names and their values, got {_kind(content)}; write for example "
            "epochs: 10"
        )
    return content


def _kind(content: Any) -> str:
    if isinstance(content, dict):
        return f"the name {next(name for name in content if not isinstance(name, str))!r}"
    return "nothing" if content is None else type(content).__name__


@contextmanager
def config_errors(sources: Sequence[str]) -> Iterator[None]:
    """Raise what the user's own values make of a configuration as one line, where there are any."""
    try:
        yield
    except (RuntimeError, *MISTAKES) as error:
        if cause_of(error) is not None:  # says what is wrong itself
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if not sources or not isinstance(cause, MISTAKES):
            raise
        reason = " ".join(str(cause).split()).rstrip(",") or type(cause).__name__
        raise SettingsError(
            f"{', '.join(sources)}: values must fit the training, got {type(cause).__name__} '{reason[:200]}'; "
            "correct or leave them out"
        ) from error


def check_used(config: str, own: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """Check that the whole configuration has a use for every value that lies over it.

    Args:
        config: What the values are from, for the message.
        own: The values.
        whole: The configuration.

    Raises:
        SettingsError: Nothing refers to a value: it is misspelt, or another training's.
    """
    used = set(re.findall(r"[@%](\w+)", repr(whole))) | RUN
    names = {name.lstrip("+~").split("#")[0].split("::")[0] for name in own}
    unused = sorted(names - used)
    if unused:
        raise SettingsError(
            f"{config}: every value must have a use in the training, nothing refers to {', '.join(unused)}; "
            "correct the name or leave it out"
        )


@contextmanager
def worker_errors() -> Iterator[None]:
    """Raise an own error of a process that prepares slices as its last line alone, without that process's traceback."""
    try:
        yield
    except BidaError as error:
        *traceback, last = str(error).strip().splitlines()
        if not traceback:
            raise
        raise type(error)(last.partition(": ")[2]) from None  # "bida.errors.ScanError: a.tif: ..."


def override(text: str) -> tuple[str, Any]:
    """Split ``name=value``; the value is read as YAML, as in the configuration."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingsError(f"--set: must be NAME=VALUE, got {text!r}; for example --set epochs=100")
    try:
        return name, yaml.load(value, ConfigLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"--set {name}: value must be YAML, got {value!r}; quote or correct it") from error
