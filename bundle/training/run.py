"""Training configurations of the bundle, run from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bida.errors import BidaError, SettingsError, plain_errors
from bida.shipped import shipped

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
        configs: The user's, to lie over them.
        assignments: ``name=value`` over all of them.
        fixed: Values that go before all.
        settable: How many of the released configurations, the last ones, hold the names that may be set.

    Raises:
        SettingsError: A configuration is missing, or a name is unknown or has no use.
    """
    from monai.bundle import ConfigParser, ConfigWorkflow

    for config in configs:
        if not Path(config).is_file():
            raise SettingsError(f"{config}: a configuration must exist, nothing is there; check --config")
    own = [str(shipped("configs") / name) for name in released]
    overrides = dict(override(text) for text in assignments)
    # a file that lies over another one may name parts of it, train#dataset
    known = {
        name.split("#")[0] for file in (*own[-settable:], *configs) for name in ConfigParser.load_config_file(file)
    }
    unknown = sorted(name for name in overrides if name.replace("::", "#").split("#")[0] not in known)
    if unknown:
        raise SettingsError(
            f"--set: must name a value of the configuration, got {', '.join(unknown)}; "
            f"see {' and '.join(released[-settable:])}"
        )
    whole = ConfigParser.load_config_files([*own, *configs])
    for config in configs:
        check_used(config, ConfigParser.load_config_file(config), whole)
    check_used("--set", overrides, whole)
    with worker_errors(), plain_errors():
        workflow = ConfigWorkflow(
            [*own, *configs], workflow_type="train", run_id="training",
            logging_file=str(shipped("configs") / "logging.conf"), **overrides | dict(fixed),
        )  # fmt: skip
        workflow.initialize()
        workflow.run()
        workflow.finalize()


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
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingsError(f"--set: must be NAME=VALUE, got {text!r}; for example --set epochs=100")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {name}: value must be YAML, got {value!r}; quote or correct it") from error
    try:
        return name, float(parsed) if isinstance(parsed, str) else parsed  # YAML reads 5e-4, without a point, as text
    except ValueError:
        return name, parsed
