"""Old runs of TensorBoard, Trackio and W&B, brought into a home beside new ones."""

from polyana.importers.bring import Brought, bring

__all__ = ["Brought", "bring"]
