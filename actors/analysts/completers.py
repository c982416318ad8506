"""The models that an analyst asks: endpoints whose calls are recorded, or recordings in their place.

Used by the llm process. Writes nothing itself; opens no connection.
"""

from __future__ import annotations

import msgspec

from actors.analysts import endpoints, recordings
from actors.analysts.chat import Completer
from actors.analysts.recorder import Recorder, RecordingCompleter
from actors.analysts.replay import ReplayCompleter
from bus import runtime
from bus.clock import Clock
from bus.vocabulary import Role
from config import load
from config.load import ConfigError
from config.settings import Llm


def build(settings: Llm, clock: Clock) -> dict[str, Completer]:
    """Return the models by the name of their endpoint, not yet started.

    Raises:
        ConfigError: an endpoint's settings cannot be right, or there is no recording to replay.
    """
    if settings.analyst == "replay":
        return _replayed(settings)
    found = endpoints.build(settings, clock)
    if not settings.record:
        return found
    specs = endpoints.specs(settings)
    secrets = load.secret_values(spec.api_key_env for spec in specs.values())
    folder = load.data_folder() / recordings.FOLDER
    # Whoever holds this name's lock is the only writer of its file.
    recorder = Recorder(folder, runtime.own_peer(Role.LLM).name, settings, secrets)
    return {
        name: RecordingCompleter(name, inner, recorder, clock, model=specs[name].model) for name, inner in found.items()
    }


def played(settings: Llm) -> Llm:
    """Return the settings of the analyst itself: of the one that is replayed, for a replay."""
    if settings.analyst != "replay":
        return settings
    return msgspec.structs.replace(settings, analyst=settings.replay_analyst)


def _replayed(settings: Llm) -> dict[str, Completer]:
    path = load.data_folder() / (settings.replay_path or recordings.FOLDER)
    recording = recordings.read(path)
    if not recording.calls:
        raise ConfigError(
            f"llm.replay_path: {path} holds no recorded call, and {recording.skipped} lines that are none"
        )
    names = endpoints.specs(played(settings))
    return {name: ReplayCompleter(name, recording, speed=settings.replay_speed) for name in names}
