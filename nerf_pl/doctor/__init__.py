"""nerf doctor: what is installed here, whether the kernels compute what their twins do, and what to do about it."""

from nerf_pl.doctor.findings import Finding, findings
from nerf_pl.doctor.gradients import compare_gradients
from nerf_pl.doctor.kernels import compare_kernels

__all__ = ["Finding", "compare_gradients", "compare_kernels", "findings"]
