"""Builds the grabber of one network camera. It loads nothing that has a key, a store or a hot list."""

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath

from homeplate.camera.shared import FrameWriter, frames_path
from homeplate.config import Config, source_settings
from homeplate.domain.source import NetworkSettings
from homeplate.errors import ConfigError
from homeplate.grabber import Grabber, open_stream, read_password


def network_of(config: Config, name: str) -> NetworkSettings:
    """Return the network camera of this name.

    Raises:
        ConfigError: the configuration has none.
    """
    networks = {s.name: s.network for s in map(source_settings, config.source) if s.network is not None}
    if name not in networks:
        known = ", ".join(networks) or "none"
        raise ConfigError(f'no source of kind "rtsp" is called {name!r}; the configuration has: {known}')
    return networks[name]


def password_path(named: PurePath, environment: "os._Environ[str] | dict[str, str]" = os.environ) -> Path:
    """Return where a password lies: a path, or a name in what systemd hands the service (LoadCredential=).

    Raises:
        ConfigError: it is a name, and no credentials were handed over.
    """
    if named.is_absolute():
        return Path(named)
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise ConfigError(
            f"network.password_file: {named} is a name in systemd's credentials, and there are none here; start the "
            "grabber's unit (LoadCredential=), or name a whole path"
        )
    return Path(folder, named)


def run_grabber(config: Config, name: str, stop: threading.Event, beat: Callable[[], None]) -> None:
    """Pass one camera's pictures on until `stop` is set.

    Raises:
        ConfigError: there is no such camera, or its password cannot be read.
        CameraError: its file in memory cannot be made.
    """
    settings = network_of(config, name)
    password = None if settings.password_file is None else read_password(password_path(settings.password_file))
    path = frames_path(config.node.runtime_dir, name)
    writer = FrameWriter(name, path)
    try:
        Grabber(name, partial(open_stream, name, settings, password), writer, beat).run(stop)
    finally:
        writer.close()
