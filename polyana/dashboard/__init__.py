"""The page that shows runs while they train: a local server over the files of a home. `polyana ui` starts it."""

from polyana.dashboard.app import make_app
from polyana.dashboard.security import PageGuard
from polyana.dashboard.server import open_server

__all__ = ["PageGuard", "make_app", "open_server"]
