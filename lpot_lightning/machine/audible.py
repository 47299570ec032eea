"""What a run says, where nobody has set up logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def audible(logger: logging.Logger) -> Iterator[None]:
    """Show what ``logger`` says on stderr, unless the program has a handler for it.

    Example::

        logger = logging.getLogger("lpot_lightning")
        with audible(logger):
            logger.info("trial 1: 10 ops int8")
    """
    if logger.hasHandlers():
        yield
        return
    handler, level = logging.StreamHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
