"""The report of a run, and of several side by side: pages that hold all they show."""

from nerf_pl.report.comparison import write_comparison
from nerf_pl.report.page import write_report

__all__ = ["write_comparison", "write_report"]
