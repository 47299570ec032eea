"""The page that tells a coding assistant how to quantize a model, shipped with the package."""

from __future__ import annotations

from pathlib import Path

SKILL = Path(__file__).parents[1] / "skills" / "lpot-lightning" / "SKILL.md"
"""In a folder of the name that it has in its front matter, as assistants look for it."""


def skill(*, path: bool = False) -> str:
    """Return the page, or where it is.

    Args:
        path: return the folder that holds it, to be copied to where an assistant looks for skills.

    Example::

        skill().splitlines()[1]  # "name: lpot-lightning"
    """
    return str(SKILL.parent) if path else SKILL.read_text(encoding="utf-8")
