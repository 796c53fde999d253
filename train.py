"""The classic entry point: python train.py --dataset_name blender --root_dir ... (see --help)."""

from nerf_pl.cli import main

if __name__ == "__main__":
    main(program="train.py")
