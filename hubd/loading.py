"""Libraries that the first answer does not need. Who needs one loads it when the work begins, beside the event loop.

A hub starts after every power cut, with tills waiting; importing all it will ever use would double that wait.
"""

from __future__ import annotations

import asyncio
import importlib
import sys


async def load(*modules: str) -> None:
    """Import these in a thread, so that the `import` in the caller's next line takes no time of the loop."""
    for module in modules:
        if module not in sys.modules:
            await asyncio.to_thread(importlib.import_module, module)
