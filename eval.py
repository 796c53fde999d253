"""The classic entry point: python eval.py --root_dir ... --ckpt_path ... (see --help)."""

from nerf_pl.cli import main

if __name__ == "__main__":
    main(program="eval.py")
