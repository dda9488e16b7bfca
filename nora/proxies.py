"""Which proxy an upstream is asked through, for the composition root."""

from __future__ import annotations

from collections.abc import Mapping

from nora.config import UpstreamConfig
from nora.config.hosts import Malformed
from nora.config.proxies import NONE, parse_proxy
from nora.config.secret import Secret
from nora.process import CannotStart
from nora.upstream.proxy import Exempt, Proxies, Proxy


def proxies_of(upstream: UpstreamConfig, environ: Mapping[str, str]) -> Proxies:
    """Tell the proxies of an upstream: its own, or those of the environment, whose lower-case names count first.

    Raises `CannotStart` for one of the environment's that cannot be used: to go without would not be meant.
    """
    if upstream.proxy == NONE:
        return Proxies()
    if upstream.proxy is not None:
        text = upstream.proxy.reveal() if isinstance(upstream.proxy, Secret) else upstream.proxy
        own = _proxy(text)
        return Proxies(own, own)
    exempt = Exempt(environ.get("no_proxy") or environ.get("NO_PROXY") or "")
    return Proxies(_named("http_proxy", environ), _named("https_proxy", environ), exempt)


def _named(name: str, environ: Mapping[str, str]) -> Proxy | None:
    for variable in (name, name.upper()):
        text = environ.get(variable)
        if text:
            try:
                return _proxy(text)
            except Malformed as error:
                raise CannotStart(f"{variable}: must {error}") from None
    return None


def _proxy(text: str) -> Proxy:
    address = parse_proxy(text)
    return Proxy(address.host, address.port, address.user)
