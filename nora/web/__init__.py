"""HTTP: the endpoints of the registry, response bodies, health, metrics. It alone knows requests of ours."""

from nora.web.connections import RegistrySite
from nora.web.forwarded import Trusted
from nora.web.registry import Backend
from nora.web.site import Limits, build_site
from nora.web.visitors import Visitor, visitor

__all__ = ["Backend", "Limits", "RegistrySite", "Trusted", "Visitor", "build_site", "visitor"]
