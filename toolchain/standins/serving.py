"""The life of a plugin's process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc

# Pulumi itself runs no more operations at once on a machine of ordinary size.
_WORKERS: Final = 32
# How long a plugin whose engine died may take to abort what it is doing, seconds.
_ABORT_LIMIT: Final = 5.0
_ORPHAN_POLL: Final = 0.5
# States may be larger than gRPC's usual limit.
OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def serve(
    add: Callable[[grpc.Server], object],
    *,
    cancel: Callable[[], object],
    busy: Callable[[], bool] = lambda: False,
) -> None:
    """Serve on a free port of the loopback address until the engine goes away.

    The port is the first line on stdout, which is how Pulumi finds a plugin. A plugin that
    lost its engine (kill -9) aborts what it does and ends, or it would change things that
    nobody records; one that another process started goes on while it is ``busy``.
    """
    server = grpc.server(ThreadPoolExecutor(max_workers=_WORKERS), options=OPTIONS)
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    # A plugin has its own process group: Ctrl-C comes as Cancel, and SIGINT is how the engine
    # ends a plugin. Each one that does not go at once costs 5 s.
    stop = threading.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda _signal, _frame: stop.set())
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    parent = os.getppid()
    while not stop.wait(_ORPHAN_POLL):
        if os.getppid() != parent and not busy():
            break
    cancel()
    server.stop(grace=_ABORT_LIMIT).wait(_ABORT_LIMIT)
    sys.stdout.flush()
    os._exit(0)  # threads in a blocking call would keep the process alive
