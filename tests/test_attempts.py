"""Photos are placed several times if most were not: with which pair COLMAP begins is chance."""

from types import SimpleNamespace

import pytest

from nerf_pl.scenes.prepare import placing


@pytest.mark.parametrize(
    ("placed", "attempts", "most"), [([[3], [2, 9], [12]], 2, 9), ([[], [2], []], 5, 2), ([[], []], 5, 0)]
)
def test_photos_are_placed_once_more_if_most_were_not(tmp_path, monkeypatch, placed, attempts, most):
    """placed: how many photos the models of each attempt have. Chance decides with which pair COLMAP begins."""
    seeds = []

    def mapping_of(database, folder, models, options, next_image_callback):
        seeds.append(options.random_seed)
        sizes = placed[len(seeds) - 1] if len(seeds) <= len(placed) else []
        return {k: SimpleNamespace(num_reg_images=lambda n=n: n) for k, n in enumerate(sizes)}

    stand_in = SimpleNamespace(
        logging=SimpleNamespace(FATAL=SimpleNamespace(value=3)),
        set_random_seed=lambda seed: None,
        IncrementalPipelineOptions=SimpleNamespace,
        incremental_mapping=mapping_of,
    )
    for name in ("_extraction", "pairs_by_tile"):
        monkeypatch.setattr(placing, name, lambda *_: [])
    monkeypatch.setattr(placing, "refine", lambda _, model: model)
    twelve = [placing.Photo(f"{i}.jpg", (8, 8), 0) for i in range(12)]
    model = placing.reconstruct(stand_in, tmp_path, twelve, "exhaustive", lambda *_: None)
    assert seeds == list(range(attempts))
    assert (model.num_reg_images() if model else 0) == most
