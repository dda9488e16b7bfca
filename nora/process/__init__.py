"""The process around the daemon: its start and ordered stop, signals, systemd, listening sockets, logs.

It knows the daemon by one seam, `Application`.
"""

from nora.process.crew import Crew
from nora.process.interfaces import Application, CannotReload, CannotStart, Notifier
from nora.process.listen import Sockets, inherited, initial_environment
from nora.process.logs import Logs
from nora.process.place import Place, usable_cores
from nora.process.sd_notify import from_environment
from nora.process.service import NoraService
from nora.process.tenancy import take_store
from nora.process.tls import Pair, TLSFactory, load_pair

__all__ = [
    "Application",
    "CannotReload",
    "CannotStart",
    "Crew",
    "Logs",
    "NoraService",
    "Notifier",
    "Pair",
    "Place",
    "Sockets",
    "TLSFactory",
    "from_environment",
    "inherited",
    "initial_environment",
    "load_pair",
    "take_store",
    "usable_cores",
]
