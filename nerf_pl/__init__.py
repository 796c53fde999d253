"""Neural radiance fields in PyTorch and Lightning.

Nothing is imported here, so that `import nerf_pl` is instant: take what you need from its modules, for example
`from nerf_pl.cameras import pixel_rays`.
"""

__version__ = "0.1.0"
