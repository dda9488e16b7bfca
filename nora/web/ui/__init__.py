"""The pages that an operator keeps open, under `/ui`, and the JSON behind each of them, under `/api/v1`.

Pages are whole without JavaScript; with it they renew themselves while somebody looks. All that they need comes from
this server, and the policy of their answers forbids anything else. `facts` tells what is so, once for pages and API;
`site` puts both together.
"""

from nora.web.ui.facts import Sources
from nora.web.ui.now import NowSources
from nora.web.ui.site import UiSite

__all__ = ["NowSources", "Sources", "UiSite"]
