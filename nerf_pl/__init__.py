"""Neural radiance fields in PyTorch and Lightning.

Only the version is imported here, so that `import nerf_pl` is instant: take what you need from its modules, for example
`from nerf_pl.cameras import pixel_rays`.
"""

from nerf_pl.version import VERSION

__version__ = VERSION
