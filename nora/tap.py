"""What `twistd nora` runs: its options, and the service made from them.

`twistd` imports this module when the word `nora` is on its command line. It then still has to choose and
install the reactor, so nothing that would install one is imported before `makeService`.
"""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar, TextIO

from twisted.application.service import IService
from twisted.python import usage

from nora.config import Config

EX_CONFIG = 78
"""The exit status of a mistake in the configuration (sysexits(3)); systemd is told not to start it again."""


class Options(usage.Options):
    """`twistd nora`'s own options. Reading them reads the configuration, before anything is started."""

    synopsis = "[--config FILE]"
    longdesc = "NORA, a pull-through cache and registry for container images."
    optParameters: ClassVar[list[list[object]]] = [
        ["config", "c", None, "The configuration file; else NORA_CONFIG_PATH names it, else there is none."],
    ]
    configuration: Config

    def postOptions(self) -> None:
        """Read the configuration; a mistake in it ends the process with status 78, one line for each."""
        from nora.config import ConfigError  # noqa: PLC0415

        try:
            self.configuration = self.load()
        except ConfigError as error:
            for line in error.lines:
                sys.stderr.write(f"nora: {line}\n")
            raise SystemExit(EX_CONFIG) from None

    def load(self) -> Config:
        """Read the configuration that the options and the environment name. Raises `ConfigError`."""
        from nora.config import load  # noqa: PLC0415

        return load(self["config"], os.environ)


def log_target(twistd: dict[str, Any], stdout: TextIO) -> tuple[TextIO, str | None]:
    """Tell where the log goes, as `twistd`'s own options have it: a stream, and the path of a file or None.

    In the foreground that is standard output unless `--logfile` says otherwise; in the background, where
    there is none, `twistd.log` in the directory that it was started in.
    """
    path = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    return stdout, None if path == "-" else os.path.abspath(path)


def makeService(options: Options) -> IService:
    """Build the daemon and the service that drives it."""
    from twisted.internet import reactor as installed  # noqa: PLC0415

    from nora.config import ConfigError  # noqa: PLC0415
    from nora.process import (  # noqa: PLC0415
        Application,
        CannotReload,
        CannotStart,
        Logs,
        NoraService,
        Sockets,
        from_environment,
        inherited,
        initial_environment,
        usable_cores,
    )

    reactor: Any = installed  # zope's interfaces and our protocols name the same methods

    def reread() -> Config:
        try:
            return options.load()
        except ConfigError as error:
            raise CannotReload(*error.lines) from None

    config = options.configuration
    stream, path = log_target(options.parent or {}, sys.stdout)
    descriptors = inherited(initial_environment(), os.environ)
    workers = config.server.workers or usable_cores()
    application: Application
    if workers > 1:
        from nora.parent import build_parent  # noqa: PLC0415

        application = build_parent(config, reactor, descriptors, reread, os.environ, workers, path)
    else:
        from nora.daemon import build  # noqa: PLC0415

        try:
            application = build(config, reactor, Sockets(reactor, descriptors), reread, os.environ)
        except CannotStart as error:
            sys.stderr.write(f"nora: {error}\n")
            raise SystemExit(EX_CONFIG) from None
    return NoraService(
        application,
        reactor,
        from_environment(os.environ),
        drain_timeout=config.server.drain_timeout,
        logs=Logs(config.log.format, config.log.level, stream, path),
    )
