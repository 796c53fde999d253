"""python -m nerf_pl: the same as the command nerf."""

from nerf_pl.cli import main

main()
