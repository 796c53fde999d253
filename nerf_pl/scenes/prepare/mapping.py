"""Where photos were taken from, found by COLMAP: SIFT features, matches between photos, and one photo after the other
placed among those that are (Schönberger and Frahm 2016)."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nerf_pl.errors import UserError
from nerf_pl.scenes.colmap import import_pycolmap
from nerf_pl.scenes.memory import in_gb
from nerf_pl.signals import ENDING, handled

Step = Callable[[str, int, int], None]
"""What is being done, how much of it is done, of how much."""

# features are looked for in photos of this longest side and number at most: more of them place photos no better
# (measured on 50 phone photos) and the time to match them grows with the square
FEATURE_SIZE, FEATURES = 1200, 4096
OVERLAP = 10  # sequential: frames that each one is matched with, and as many at distances that double
TILE = 10  # photos that are matched with as many others at a time: a second or two
EXHAUSTIVE_UP_TO = 150  # photos; their pairs take some minutes on two cores
ENOUGH_VIEWS = 10  # of one camera, so that its principal point and a second coefficient can be told from its poses
SEED = 0
# bytes of the database: 128 and 24 for each feature of a photo; of a pair of photos; and what is spared for the rest
FEATURES_SIZE, PAIR_SIZE, SPARE = 152 * FEATURES, 8_000, 50_000_000


@dataclass(frozen=True)
class Photo:
    """A picture in the folder that COLMAP reads. camera: photos that share it share intrinsics. focal: in pixels, as
    far as the photo says."""

    name: str
    size: tuple[int, int]
    camera: object
    focal: float | None = None


def reconstruct(folder: Path, photos: Sequence[Photo], matcher: str, step: Step) -> Any:
    """The pycolmap.Reconstruction that places most of the photos; None if no two of them fit together.

    folder: holds the photos; COLMAP's own files go there, too. matcher: exhaustive (all pairs) or sequential (photos in
    the order of time). COLMAP runs on the CPU, in a thread of its own that KeyboardInterrupt stops. Progress is told
    from the pieces that it gets: a second SQLite in one process, which could look at its database, would damage it.
    Raises UserError if pycolmap is missing or fails.
    """
    pycolmap = import_pycolmap("finding where photos were taken")
    token = pycolmap.CancellationToken()
    database, models = folder / "database.db", folder / "models"
    models.mkdir()
    placed: list[int] = []

    def placing() -> None:
        step("placing photos", min(len(placed), len(photos)), len(photos))

    with _quiet(pycolmap), _in_thread(token) as run:
        pycolmap.set_random_seed(SEED)
        for done, job in _extraction(pycolmap, database, folder, photos, token=token):
            step("looking for features", done, len(photos))
            run(job)
        tiles = pairs_by_tile(len(photos), matcher)
        for i, tile in enumerate(tiles):
            step("matching photos", i, len(tiles))
            pairs = [(photos[a].name, photos[b].name) for a, b in tile]
            run(_matching(pycolmap, database, folder, pairs, token=token))
        placing()
        found = run(
            lambda: pycolmap.incremental_mapping(
                database,
                folder,
                models,
                # a few photos are no less a scene
                pycolmap.IncrementalPipelineOptions(random_seed=SEED, min_model_size=3, extract_colors=False),
                next_image_callback=lambda: placed.append(1),
                cancellation_token=token,
            ),
            placing,
        )
        if not found:
            return None
        largest = max(found.values(), key=lambda model: model.num_reg_images())
        step("refining all cameras", 0, 1)
        return run(lambda: refine(pycolmap, largest))


def require_space(folder: Path, photos: Sequence[Photo], matcher: str) -> None:
    """Raises UserError if the disk lacks room for what is made of photos in a folder: COLMAP ends the whole program
    when its database finds no room."""
    pictures = sum((folder / photo.name).stat().st_size for photo in photos)
    pairs = sum(map(len, pairs_by_tile(len(photos), matcher)))
    needed, free = FEATURES_SIZE * len(photos) + PAIR_SIZE * pairs + pictures + SPARE, shutil.disk_usage(folder).free
    if needed > free:
        told = (
            f"{len(photos)} photos need about {in_gb(needed)} of disk while they are placed, and {in_gb(free)} are free"
        )
        raise UserError(f"{told} in {folder.parent.parent}: free some space, or give --out on another disk")


def choose_matcher(matcher: str, n: int, is_film: bool) -> str:
    """What "auto" means for n photos: all pairs while there is time for that, then neighbours in a film."""
    if matcher != "auto":
        return matcher
    return "sequential" if is_film and n > EXHAUSTIVE_UP_TO else "exhaustive"


def pairs_by_tile(n: int, matcher: str) -> list[list[tuple[int, int]]]:
    """Which of n photos are matched with which, each pair once, by groups with few different photos in each."""
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n)]
    if matcher == "sequential":
        distances = {*range(1, OVERLAP + 1), *(2**k for k in range(OVERLAP))}
        pairs = [(a, b) for a, b in pairs if b - a in distances]
    tiles: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b in pairs:
        tiles.setdefault((a // TILE, b // TILE), []).append((a, b))
    return list(tiles.values())


def _extraction(
    pycolmap: Any, database: Path, folder: Path, photos: Sequence[Photo], *, token: Any
) -> Iterator[tuple[int, Callable[[], None]]]:
    """Jobs that put photos and their features into the database, a few photos each; and how many are in before it."""
    options = pycolmap.FeatureExtractionOptions(use_gpu=False, max_image_size=FEATURE_SIZE)
    options.sift.max_num_features = FEATURES
    pycolmap.Database.open(database).close()  # makes an empty one
    for camera in dict.fromkeys(photo.camera for photo in photos):
        group = [photo for photo in photos if photo.camera == camera]
        (width, height), focal = group[0].size, group[0].focal
        reader = pycolmap.ImageReaderOptions(camera_model="SIMPLE_RADIAL")
        if focal is not None:
            reader.camera_params = f"{focal},{width / 2},{height / 2},0"
        # in this order: features are found by several threads, and photos would be numbered as those come to an end
        pycolmap.import_images(database, folder, pycolmap.CameraMode.SINGLE, [photo.name for photo in group], reader)
    at_once = 2 * (os.cpu_count() or 1)
    for done in range(0, len(photos), at_once):
        names = [photo.name for photo in photos[done : done + at_once]]
        settings = {"extraction_options": options, "device": pycolmap.Device.cpu, "cancellation_token": token}
        yield done, partial(pycolmap.extract_features, database, folder, names, **settings)


def _matching(
    pycolmap: Any, database: Path, folder: Path, pairs: Sequence[tuple[str, str]], *, token: Any
) -> Callable[[], None]:
    """The job that matches these photos and finds how the cameras of a pair stand to each other."""
    listed = folder / "pairs.txt"
    listed.write_text("\n".join(f"{a} {b}" for a, b in pairs), encoding="utf-8")
    geometry = pycolmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = SEED
    return partial(
        pycolmap.match_image_pairs,
        database,
        matching_options=pycolmap.FeatureMatchingOptions(use_gpu=False),
        pairing_options=pycolmap.ImportedPairingOptions(match_list_path=listed),
        verification_options=geometry,
        device=pycolmap.Device.cpu,
        cancellation_token=token,
    )


def refine(pycolmap: Any, model: Any) -> Any:
    """The model with a principal point and two radial coefficients in place of the one that photos are placed with,
    safely; cameras with few views keep that.

    Two focal lengths and tangential coefficients would lower the error a little more, but not truly: with them poses
    of forward-facing photos came out farther from given ones, and the focal lengths 1.4 % apart.
    """
    refined = pycolmap.Reconstruction(model)
    views = [refined.image(i).camera_id for i in refined.reg_image_ids()]
    many = [camera for camera in refined.cameras.values() if views.count(camera.camera_id) >= ENOUGH_VIEWS]
    for camera in many:
        one_coefficient = camera.params
        camera.model = pycolmap.CameraModelId.RADIAL
        camera.params = [*one_coefficient, 0.0]
    # the others' principal points, held by few views, would drift
    options = pycolmap.BundleAdjustmentOptions(refine_principal_point=len(many) == len(refined.cameras))
    what = pycolmap.BundleAdjustmentConfig()
    for i in refined.reg_image_ids():
        what.add_image(i)
    what.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options.print_summary = False
    pycolmap.create_default_bundle_adjuster(options, what, refined).solve()
    refined.update_point_3d_errors()
    strange = any(camera.has_bogus_params(0.1, 10.0, 1.0) for camera in many)
    better = refined.compute_mean_reprojection_error() <= model.compute_mean_reprojection_error()
    return refined if better and not strange else model


@contextmanager
def _in_thread(token: Any) -> Iterator[Callable[..., Any]]:
    """Gives run(job, report): it waits for the job, calling report now and then; what ends the waiting ends the job."""
    with ThreadPoolExecutor(1) as pool:

        def run(job: Callable[[], Any], report: Callable[[], None] = lambda: None) -> Any:
            future = pool.submit(job)
            try:
                while not wait([future], timeout=0.2).done:
                    report()
                return future.result()
            except (ValueError, IndexError, RuntimeError) as error:
                raise UserError(f"COLMAP failed: {' '.join(str(error).split())}") from error
            finally:
                if not future.done():
                    # a second Ctrl-C would end the program while COLMAP's threads go on, which they answer with a dump
                    with handled(lambda _: None, (signal.SIGINT, *ENDING)):
                        token.cancel()
                        wait([future])

        yield run


@contextmanager
def _quiet(pycolmap: Any) -> Iterator[None]:
    """COLMAP's many lines about its progress are kept from the terminal."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
