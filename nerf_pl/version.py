"""The version of the package.

It has a module of its own: beside a clone, Python may take the folder of the clone for the package `nerf_pl` itself.
That one has no contents, while all modules in it are found where the package is installed.
"""

VERSION = "0.1.0"
