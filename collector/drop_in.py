"""Import path for applications: ``from collector import drop_in``. See fogmetrics.application.drop_in."""

from __future__ import annotations

from fogmetrics.application.drop_in import install

__all__ = ["install"]
