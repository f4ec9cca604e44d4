"""A model's name becomes a `core.Model`: an asset, a folder, a hub id, or the address of a remote one."""

from __future__ import annotations

from breakfix import assets
from breakfix.config import Config
from breakfix.core import Model
from breakfix.models.endpoint import address, identity, is_remote, settings
from breakfix.models.identity import weights_id


def open_model(name: str, config: Config) -> Model:
    """By the config's hardware settings, or its endpoints. A remote model is asked nothing yet.

    Raises AssetError (what was tried) or ConfigError (an address or a key that is missing), in one line.
    """
    if is_remote(name):
        from breakfix.models.remote import RemoteModel

        return RemoteModel.open(name, config.endpoints)
    return open_hf(str(assets.resolve_model(name).path), config)


def open_hf(path: str, config: Config) -> Model:
    """Load a transformers model with the config's hardware settings."""
    from breakfix.models.hf import HFModel

    hardware = config.hardware
    return HFModel.load(path, precision=hardware.precision, threads=hardware.threads, batch=hardware.batch)


def place(name: str) -> str:
    """Where a model is: its folder (downloaded or converted when first needed), or the address that it has already."""
    return name if is_remote(name) else str(assets.resolve(name).path)


def model_id(path: str, config: Config) -> str:
    """What identifies the model at a `place` among a stage's inputs; nothing is loaded."""
    if not is_remote(path):
        return weights_id(path)
    where = address(path)
    return identity(where, settings(where, config.endpoints))
