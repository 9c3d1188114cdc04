"""Opens the models as the configuration says, and builds at install what that needs."""

from collections.abc import Iterator
from pathlib import Path

from homeplate.app.node import Paths
from homeplate.config import Config
from homeplate.domain.provider import Provider
from homeplate.trust.bundle import Bundle
from homeplate.trust.reasons import NamedTrustError
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


def require_named(bundle: Bundle, manifest_sha256: bytes) -> None:
    """Refuse models that the operator did not sign, where the bundle names any.

    Raises:
        NamedTrustError: `other-models`.
    """
    if bundle.model_manifests is not None and manifest_sha256 not in bundle.model_manifests:
        message = (
            f"the bundle names other models than the manifest {manifest_sha256.hex()[:12]}... of this node: install the"
            " models that it names, or have the operator sign these (`homeplate-custodian bundle models`)"
        )
        raise NamedTrustError("other-models", message)


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
