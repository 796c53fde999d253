"""Where photos were taken from, found by COLMAP: SIFT features, matches between photos, and one photo after the other
placed among those that are (Schönberger and Frahm 2016).

This is the program of a process of its own, see `mapping`: what ends COLMAP does not end the command. It imports
neither PyTorch nor anything else that takes seconds.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BufferedIOBase, TextIOBase
from pathlib import Path
from typing import Any

Step = Callable[[str, int, int], None]
"""What is being done, how much of it is done, of how much."""

# features are looked for in photos of this longest side and number at most: more of them place photos no better
# (measured on 50 phone photos) and the time to match them grows with the square
FEATURE_SIZE, FEATURES = 1200, 4096
OVERLAP = 10  # sequential: frames that each one is matched with, and as many at distances that double
TILE = 10  # photos that are matched with as many others at a time: a second or two
ENOUGH_VIEWS = 10  # of one camera, so that its principal point and a second coefficient can be told from its poses
SEED = 0
ATTEMPTS = 5  # a wrong pair of photos to begin with, which chance decides, may leave most of the others out
MODEL = "placed"  # the folder of the model that is found
PARENT_IS_GONE = 1  # exit code


@dataclass(frozen=True)
class Photo:
    """A picture in the folder that COLMAP reads. camera: photos that share it share intrinsics. focal: in pixels, as
    far as the photo says."""

    name: str
    size: tuple[int, int]
    camera: object
    focal: float | None = None


def reconstruct(pycolmap: Any, folder: Path, photos: Sequence[Photo], matcher: str, step: Step) -> Any:
    """The pycolmap.Reconstruction that places most of the photos; None if no two of them fit together.

    folder: holds the photos; COLMAP's own files go there, too. matcher: exhaustive (all pairs) or sequential (photos in
    the order of time). COLMAP runs on the CPU. Progress is told from the pieces that it gets: a second SQLite in one
    process, which could look at its database, would damage it. Raises one of several errors if COLMAP fails.
    """
    database, models = folder / "database.db", folder / "models"
    models.mkdir()
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    pycolmap.set_random_seed(SEED)
    for done, job in _extraction(pycolmap, database, folder, photos):
        step("looking for features", done, len(photos))
        job()
    tiles = pairs_by_tile(len(photos), matcher)
    for i, tile in enumerate(tiles):
        step("matching photos", i, len(tiles))
        _matching(pycolmap, database, folder, [(photos[a].name, photos[b].name) for a, b in tile])()
    found: list[Any] = []
    for attempt in range(ATTEMPTS):
        found += _placing(pycolmap, database, folder, models / str(attempt), SEED + attempt, len(photos), step)
        if any(2 * model.num_reg_images() >= len(photos) for model in found):
            break
    if not found:
        return None
    largest = max(found, key=lambda model: model.num_reg_images())
    step("refining all cameras", 0, 1)
    return refine(pycolmap, largest)


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
    pycolmap: Any, database: Path, folder: Path, photos: Sequence[Photo]
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
        settings = {"extraction_options": options, "device": pycolmap.Device.cpu}
        yield done, partial(pycolmap.extract_features, database, folder, names, **settings)


def _matching(pycolmap: Any, database: Path, folder: Path, pairs: Sequence[tuple[str, str]]) -> Callable[[], None]:
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
    )


def _placing(pycolmap: Any, database: Path, folder: Path, models: Path, seed: int, n: int, step: Step) -> Iterable[Any]:
    """The models that one attempt finds, each of some of the n photos. models: the folder that COLMAP writes to."""
    placed: list[int] = []

    def placing() -> None:
        placed.append(1)
        step("placing photos", min(len(placed), n), n)

    step("placing photos", 0, n)
    models.mkdir()
    # a few photos are no less a scene
    options = pycolmap.IncrementalPipelineOptions(random_seed=seed, min_model_size=3, extract_colors=False)
    return pycolmap.incremental_mapping(database, folder, models, options, next_image_callback=placing).values()


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


@dataclass(frozen=True)
class Job:
    """What the process is asked to do. photos: as dictionaries."""

    folder: str
    photos: Sequence[dict[str, Any]]
    matcher: str

    @staticmethod
    def of(folder: Path, photos: Sequence[Photo], matcher: str) -> "Job":
        """Cameras become numbers: all that matters is which photos share one."""
        numbers = {camera: i for i, camera in enumerate(dict.fromkeys(photo.camera for photo in photos))}
        return Job(str(folder), [asdict(photo) | {"camera": numbers[photo.camera]} for photo in photos], matcher)


def main(jobs: BufferedIOBase, told: TextIOBase) -> None:
    """Do one job: a line of JSON. Each line that is told is JSON, too: steps, and at the end what became of it."""

    def tell(kind: str, value: object) -> None:
        told.write(json.dumps({kind: value}) + "\n")
        told.flush()

    line = jobs.readline()
    if not line:
        return
    threading.Thread(target=_end_with_parent, args=(jobs,), daemon=True).start()
    try:
        import pycolmap

        job = Job(**json.loads(line))
        photos = [Photo(**{**photo, "size": tuple(photo["size"])}) for photo in job.photos]
        folder = Path(job.folder)
        model = reconstruct(pycolmap, folder, photos, job.matcher, lambda *step: tell("step", step))
        if model is not None:
            (folder / MODEL).mkdir()
            model.write_binary(folder / MODEL)
        tell("found", model is not None)
    except Exception as error:  # pycolmap raises many types
        tell("failed", " ".join(str(error).split()) or type(error).__name__)


def _end_with_parent(jobs: BufferedIOBase) -> None:
    """The pipe ends when the process that started this one does, however that ends."""
    jobs.read()
    os._exit(PARENT_IS_GONE)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what COLMAP prints is not for the channel
    main(os.fdopen(sys.stdin.fileno(), "rb"), channel)
    os._exit(0)  # at once: the threads of libraries may end in a crash
