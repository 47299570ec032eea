"""One of several processes that measure at the same time: what runs in it."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING, Any

from lpot_lightning.errors import LpotError, in_short

if TYPE_CHECKING:
    from lpot_lightning.timing.cores import CpuShare


@dataclass(frozen=True)
class InstanceFault:
    """Why a process has found nothing."""

    text: str
    details: str = ""


def run_instance(pipe: Connection, together: Barrier, share: CpuShare) -> None:
    """Pin this process, receive the work, do it, and send what was found, or the fault.

    It is pinned before torch is imported, which asks for its cores then. Ctrl-C is for the process
    that started this one; with that, this one ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.sched_setaffinity(0, share.cores)
    for name, value in share.environment:
        os.environ.setdefault(name, value)
    content = pipe.recv_bytes()
    try:
        pipe.send(_find(content, together, share))
    except threading.BrokenBarrierError:
        connection.wait([pipe])  # another one has failed, and says why; this one will be ended
    except Exception as error:
        pipe.send(_fault(error))
        together.abort()


def _find(content: bytes, together: Barrier, share: CpuShare) -> Any:
    import torch

    from lpot_lightning.timing.in_turns import find

    torch.set_num_threads(share.threads)
    if share.inter_threads is not None:
        torch.set_num_interop_threads(share.inter_threads)
    return find(ForkingPickler.loads(content), together.wait)


def _fault(error: Exception) -> InstanceFault:
    if isinstance(error, LpotError):
        return InstanceFault(str(error))
    import traceback

    return InstanceFault(in_short(error), "".join(traceback.format_exception(error)))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
