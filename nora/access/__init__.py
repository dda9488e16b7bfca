"""Who the client is and what it may do: values, asked by the rooms above before anything is looked up."""

from nora.access.rights import ANONYMOUS, Action, Rights, Rules, full_name

__all__ = ["ANONYMOUS", "Action", "Rights", "Rules", "full_name"]
