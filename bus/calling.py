"""An analyst's way to a store on another host: one encrypted connection for both directions.

Used by `bus.link` where `bus.store` is set. Calls, and is never called: no port is open on an analyst's host. Believes
only the one store whose public key is in the folder of keys.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

import msgspec
import zmq

from bus import keys, sockets
from bus.messages import REMOTE, Peer
from config.load import ConfigError
from config.settings import Bus


def called_from(peer: Peer, settings: Bus) -> Peer:
    """Return who `peer` is for the store: with the name of this machine when the store is on another.

    Raises ConfigError for a role that cannot be away from the store.
    """
    if not settings.store:
        return peer
    if peer.role not in REMOTE:
        raise ConfigError(
            f"{peer.role} runs on the store's host only, and bus.store is {settings.store}; allowed elsewhere: "
            f"{', '.join(REMOTE)}"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:63].lstrip("_.-")
    return msgspec.structs.replace(peer, host=name)


def call(settings: Bus, peer: Peer, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> sockets.Socket:
    """Return a DEALER that calls the store until it answers. Nothing is queued while it does not: send says False.

    Raises:
        bus.keys.KeyRefused: the keys of this host are missing, or others could read them.
    """
    folder = Path(settings.keys)
    own, store = keys.pair(folder, peer.role), keys.store_key(folder)
    raw: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(zmq.DEALER)
    sockets.over_tcp(raw, settings)
    raw.set(zmq.SNDHWM, sockets.HWM)
    raw.set(zmq.RCVHWM, sockets.HWM)
    raw.set(zmq.IMMEDIATE, 1)
    raw.set(zmq.CONNECT_TIMEOUT, sockets.CALL_MS_MAX)
    raw.set(zmq.RECONNECT_IVL, sockets.CALL_MS)
    raw.set(zmq.RECONNECT_IVL_MAX, sockets.CALL_MS_MAX)
    raw.set(zmq.CURVE_SERVERKEY, store.encode("ascii"))
    raw.set(zmq.CURVE_PUBLICKEY, own.public.encode("ascii"))
    raw.set(zmq.CURVE_SECRETKEY, own.secret.encode("ascii"))
    raw.connect(settings.store)
    return sockets.Socket(raw, settings.message_bytes_max)
