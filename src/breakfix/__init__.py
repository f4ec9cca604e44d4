"""breakfix: the break-fix cycle of safety post-training, as software. No work at import."""

__version__ = "0.1.0"
