"""Opens the models as the configuration says, and builds at install what that needs."""

from collections.abc import Iterator
from pathlib import Path

from homeplate.app.node import Paths
from homeplate.config import Config
from homeplate.domain.provider import Provider
from homeplate.vision import Models, build_engines
from homeplate.vision.model import default_model_dir


def opened_models(config: Config) -> Models:
    """Return the models, opened.

    Raises:
        ModelError: one is missing, altered or not built for the provider, or the provider is not there.
    """
    section = config.models
    return Models.open(
        _folder(config), threads=section.threads, provider=section.provider, engines=Paths.of(config).engines
    )


def built_engines(config: Config) -> Iterator[Path]:
    """Build what the configured provider needs, for minutes, and yield each engine; nothing for the CPU.

    Raises:
        ModelError: the provider is not there, or a model cannot be built for it.
    """
    if config.models.provider is Provider.CPU:
        return
    yield from build_engines(_folder(config), Paths.of(config).engines)


def _folder(config: Config) -> Path:
    return config.models.dir or default_model_dir()
