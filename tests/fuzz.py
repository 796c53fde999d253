"""Damaged files for every reader of files: only a UserError of one short line may come out, or something that makes
sense.

    NERF_PL_STRICT=1 python tests/fuzz.py --count 20000 --seed 1 --jobs 2

Failures are printed as recipes, for tests/fuzz_past.jsonl.
"""

import argparse
import contextlib
import gc
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

SECONDS = 10.0  # of a core that reading one input may take
MEMORY = 6 * 2**30  # bytes that a process may take beside what it has
PART = 10_000  # inputs of one process
LONGEST = 300  # characters of a message
Recipe = tuple[str, str, list]  # target, file, edits


class HangError(BaseException):
    """An input took too long. No `except Exception` catches it."""


class Bench:
    """The valid files of each target, in a folder, and how one of them is damaged, read and restored."""

    def __init__(self, folder: Path) -> None:
        from fuzz_targets import TARGETS, quiet_libraries

        quiet_libraries()
        self.folder, self.targets, self.files, self.states = folder, TARGETS, {}, {}
        self._drawn: tuple[Recipe | None, bytes] = None, b""  # the last recipe, and what it makes of its file

    def root(self, name: str) -> Path:
        """The folder of a target."""
        return self.folder / name.replace(" ", "-").replace(".", "-")

    def prepared(self, name: str) -> dict[str, bytes]:
        """The contents of a target's files."""
        if name not in self.files:
            root = self.root(name)
            root.mkdir()
            self.targets[name].write(root)
            self.states[name] = dict(states(root))
            self.files[name] = {file: (root / file).read_bytes() for file in sorted(self.states[name])}
        return self.files[name]

    def draw(self, rng: Random) -> Recipe:
        """A recipe for an input."""
        names = [*self.targets]
        (name,) = rng.choices(names, [self.targets[each].weight for each in names])
        found = self.prepared(name)
        files = [file for file in found if not file.endswith(tuple(self.targets[name].skip))]
        # of many pictures one is as good as another
        kind = rng.choice(sorted({Path(file).suffix for file in files}))
        file = rng.choice([file for file in files if Path(file).suffix == kind])
        for _ in range(10):  # some edits change nothing
            data, edits = found[file], []
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                edits.append(drawn(rng, file, data))
                data = damaged(edits[-1], data)
            if data != found[file]:
                break
        recipe = name, file, edits
        self._drawn = recipe, data
        return recipe

    def run(self, recipe: Recipe) -> str:
        """What is wrong with how an input is read; "" if nothing is, with `told` or `read` in `self.outcome`."""
        name, file, edits = recipe
        found, root, data = self.prepared(name), self.root(name), self._drawn[1]
        if recipe is not self._drawn[0]:
            data = found[file]
            for edit in edits:
                data = damaged(edit, data)
        (root / file).write_bytes(data)
        self.states[name].pop(file, None)
        try:
            return self._read(lambda: self.targets[name].read(root))
        finally:
            self._restore(name)

    def _restore(self, name: str) -> None:
        """Make the files of a target what they were."""
        root, known = self.root(name), self.states[name]
        now = dict(states(root))
        for file in now.keys() - self.files[name].keys():
            (root / file).unlink()
        for file, data in self.files[name].items():
            if file not in now or now[file] != known.get(file):
                place = root / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
                known[file] = state(place.stat())
        for folder in root.glob("images_*"):
            shutil.rmtree(folder)

    def _read(self, read: Callable[[], object]) -> str:
        from nerf_pl import console
        from nerf_pl.errors import UserError

        box = io.StringIO()
        console._warned.clear()
        console.console.file = console.errors.file = box
        self.outcome = "read"
        try:
            with warnings.catch_warnings(), limited():
                warnings.simplefilter("error")
                read()
        except UserError as error:
            self.outcome = "told"
            if wrong := wrong_line(str(error)):
                return f"a message that {wrong}: {str(error)[:500]!r}"
        except HangError:
            return f"it takes more than {SECONDS:g} s"
        except Exception as error:
            self.outcome = "raised"
            return f"{type(error).__name__}: {str(error)[:200]!r}\n{where(error)}"
        finally:
            console.console.file = console.errors.file = None  # stdout and stderr again
        printed = box.getvalue()
        if any(not (c.isprintable() or c == "\n") for c in printed):
            return f"printed {printed[:300]!r}"
        return ""


State = tuple[int, int, int]  # what changes if a file is written: its number, time and size


def state(found: os.stat_result) -> State:
    return found.st_ino, found.st_mtime_ns, found.st_size


def states(folder: Path, prefix: str = "") -> Iterator[tuple[str, State]]:
    """The files below a folder, by their path in it."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from states(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", state(entry.stat(follow_symlinks=False))


def drawn(rng: Random, file: str, data: bytes) -> list:
    import fuzz_edits
    import fuzz_weights

    draw = fuzz_weights.draw if fuzz_weights.is_weights(file) else fuzz_edits.draw
    try:
        return draw(rng, file, data)
    except Exception:  # as in `damaged`
        return fuzz_edits._draw_bytes(rng, data)


def damaged(edit: list, data: bytes) -> bytes:
    import fuzz_edits
    import fuzz_weights

    try:
        return (fuzz_weights if edit[0] in ("weights", "header") else fuzz_edits).apply(edit, data)
    except Exception:  # what an earlier edit has left can no longer be understood
        return data


def wrong_line(message: str) -> str:
    """What is wrong with a message; "" if nothing is."""
    if not message.isprintable():
        return "has characters that a terminal would obey"
    return f"has {len(message)} characters" if len(message) >= LONGEST else ""


def where(error: BaseException) -> str:
    """The calls that led to an error."""
    return "".join(traceback.format_tb(error.__traceback__)[-4:])


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Ends what takes too long, and refuses memory beyond MEMORY."""

    def stop(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def watch(process: multiprocessing.process.BaseProcess, now: Path) -> None:
    """Wait for a process, and end it if it stays in code that no signal interrupts."""
    while process.is_alive():
        process.join(5)
        if now.exists() and time.time() - now.stat().st_mtime > 20 * SECONDS:
            process.kill()


def recipe_of(line: str) -> Recipe:
    name, file, edits = json.loads(line)
    return name, file, edits


def work(seed: int, first: int, count: int, folder: str, only: str, until: float) -> None:
    """Inputs first, first + 1, ... of a seed; one line of JSON for each failure, and at the end one of counts."""
    from fuzz_pace import quick

    with quick():
        _work(Bench(Path(folder)), seed, range(first, first + count), only, until)


def _work(bench: Bench, seed: int, indices: range, only: str, until: float) -> None:
    folder = bench.folder
    if only:
        bench.targets = {name: target for name, target in bench.targets.items() if name.startswith(only)}
    for name in bench.targets:
        bench.prepared(name)
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)  # looking for garbage takes longer than it is worth
    now, counts = folder / "now", Counter()
    failures = (folder / "failures.jsonl").open("a")
    for index in indices:
        if time.time() > until:
            break
        recipe = bench.draw(Random(f"{seed} {index}"))
        now.write_text(f"{index} {json.dumps(recipe)}")  # for the case that this process ends
        wrong = bench.run(recipe)
        counts[bench.outcome if not wrong else "failed"] += 1
        if wrong:
            failures.write(json.dumps({"index": index, "recipe": recipe, "wrong": wrong}) + "\n")
            failures.flush()
        if index % 1000 == 999:
            (folder / "counts").write_text(f"{index + 1} {json.dumps(counts)}")
    (folder / "counts").write_text(f"{index + 1} {json.dumps(counts)}")


def part(args: argparse.Namespace, first: int, end: int, shared: str | None) -> tuple[int, Counter, list[dict]]:
    """Inputs first to end, in a process, and in another one if that ends. How many there were, what became of them, and
    those that went wrong."""
    start, counts, failed = first, Counter(), []
    while first < end and time.time() < args.until:
        with tempfile.TemporaryDirectory(dir=shared) as folder:
            given = args.seed, first, end - first, folder, args.only, args.until
            process = multiprocessing.get_context("spawn").Process(target=work, args=given)
            process.start()
            watch(process, Path(folder) / "now")
            done, found = 0, Path(folder) / "counts"
            if found.exists():
                done, told = found.read_text().split(" ", 1)
                counts += Counter(json.loads(told))
            path = Path(folder) / "failures.jsonl"
            failed += [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            first = int(done)
            if process.exitcode != 0:
                now, recipe = (Path(folder) / "now").read_text().split(" ", 1)
                failed.append({"index": int(now), "recipe": json.loads(recipe), "wrong": f"ended: {process.exitcode}"})
                first = int(now) + 1
    return first - start, counts, failed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose names begin so")
    parser.add_argument("--until", type=float, default=float("inf"), help="seconds since 1970 at which to stop")
    parser.add_argument("--out", type=Path, help="a file for the failures, one line of JSON each")
    parser.add_argument("--recipe", help="run one recipe, a line of JSON, instead")
    args = parser.parse_args(argv)
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    if args.recipe:
        with tempfile.TemporaryDirectory(dir=shared) as folder:
            print(Bench(Path(folder)).run(recipe_of(args.recipe)) or "fine")
        return 0
    end, start, done = args.first + args.count, time.time(), 0
    counts, kinds, failed, examples = Counter(), Counter(), 0, {}
    size = min(PART, -(-args.count // args.jobs))
    parts = [(first, min(first + size, end)) for first in range(args.first, end, size)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for inputs, told, lines in pool.map(lambda ends: part(args, *ends, shared), parts):
            done, failed = done + inputs, failed + len(lines)
            counts += told
            for line in lines:
                kind = "\n".join([line["recipe"][0], line["wrong"][:60], *line["wrong"].splitlines()[-2:]])
                kinds[kind] += 1
                examples.setdefault(kind, line["recipe"])
            if args.out:
                with args.out.open("a") as out:
                    out.writelines(json.dumps(line) + "\n" for line in lines)
            print(f"{done} inputs, {failed} failures, {time.time() - start:.0f} s: {dict(counts)}", flush=True)
    if args.out is None:
        for kind, times in kinds.most_common():
            print(f"--- {times} times: {kind}")
            print(json.dumps(examples[kind]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
