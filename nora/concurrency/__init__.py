"""Several waiting for one: the few tools for shared work that every room above uses.

Twisted's own (`DeferredSemaphore`, `Deferred.addTimeout`) serve wherever they fit; here is what they lack.
"""

from nora.concurrency.background import Background
from nora.concurrency.pump import Drawing, Flow, Pump, Tap
from nora.concurrency.single_flight import SingleFlight
from nora.concurrency.waiters import Waiters

__all__ = ["Background", "Drawing", "Flow", "Pump", "SingleFlight", "Tap", "Waiters"]
