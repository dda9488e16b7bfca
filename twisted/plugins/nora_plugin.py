"""Tells `twistd` that it can run `nora`. Nothing else may be imported here: every `twistd` imports this file."""

from twisted.application.service import ServiceMaker

nora = ServiceMaker("NORA", "nora.tap", "A pull-through cache and registry for container images.", "nora")
