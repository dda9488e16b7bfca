"""Who the client is and what it may do: values, asked by `nora.pull` before anything is looked up."""

from nora.access.rights import ANONYMOUS, Action, Rights

__all__ = ["ANONYMOUS", "Action", "Rights"]
