"""`python -m nora`: the operator's command, where the script `nora` is not on the path."""

from __future__ import annotations

import sys

from nora.cli import main

if __name__ == "__main__":
    sys.exit(main())
