"""What layers are put together with by those who describe a model outside of the families' folder."""

from tierwise.models.families._common import pre_norm, stack

__all__ = ["pre_norm", "stack"]
