"""HTTP: the endpoints of the registry, response bodies, health, metrics. It alone knows requests of ours."""

from nora.web.connections import RegistrySite
from nora.web.registry import Backend
from nora.web.site import Limits, build_site

__all__ = ["Backend", "Limits", "RegistrySite", "build_site"]
