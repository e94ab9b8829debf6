"""Which way of copying a byte range is fastest, in one thread?

Composing is copying: everything else is small beside it. This measures, for ranges of one large
file, the ways a Python program has, in turns, each into a new file, memory caches warm:

- ``copy_file_range`` and ``sendfile``: the kernel copies, nothing passes through the program;
- ``mmap``: pages of the input are written as they are;
- ``buffer N``: read into one buffer of N KiB and write it again, with and without allocating the
  output's space beforehand (``+space``).

    python benchmarks/copying.py --mb 1000 --repeats 5
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mb", type=int, default=1000, help="size of the file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workdir", type=Path, help="where to work")
    options = parser.parse_args(arguments)
    ways: dict[str, Callable[[int, int, int], None]] = {
        "copy_file_range": _copy_file_range,
        "sendfile": _sendfile,
        "mmap": _mmap,
    }
    for size in (64, 512, 8192):
        ways[f"buffer {size}"] = partial(_buffer, size=size << 10, space=False)
        ways[f"buffer {size} +space"] = partial(_buffer, size=size << 10, space=True)
    with tempfile.TemporaryDirectory(dir=options.workdir) as folder:
        seconds = _measure(ways, Path(folder), options.mb * 10**6, options.repeats)
    best = min(statistics.median(times) for times in seconds.values())
    print(f"{options.mb} MB, medians of {options.repeats} (minima), in one thread")
    for name, times in seconds.items():
        median = statistics.median(times)
        rate = options.mb / 1000 / median
        print(
            f"{name:20} {median:6.3f} s ({min(times):6.3f})  {rate:5.2f} GB/s  {median / best:5.2f}"
        )


def _measure(
    ways: dict[str, Callable[[int, int, int], None]], folder: Path, size: int, repeats: int
) -> dict[str, list[float]]:
    source = folder / "source"
    block = os.urandom(1 << 20)
    with source.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: min(len(block), size - start)])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            target = folder / "target"
            os.sync()
            start_at = time.perf_counter()
            with source.open("rb") as reader, target.open("wb") as writer:
                way(reader.fileno(), writer.fileno(), size)
            seconds[name].append(time.perf_counter() - start_at)
            assert target.stat().st_size == size
            target.unlink()
    return seconds


def _copy_file_range(source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        done += os.copy_file_range(source, target, size - done)


def _sendfile(source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        done += os.sendfile(target, source, done, size - done)


def _mmap(source: int, target: int, size: int) -> None:
    with mmap.mmap(source, size, prot=mmap.PROT_READ) as pages, memoryview(pages) as view:
        done = 0
        while done < size:
            done += os.pwrite(target, view[done : done + (1 << 26)], done)


def _buffer(source: int, target: int, total: int, *, size: int, space: bool) -> None:
    if space:
        os.posix_fallocate(target, 0, total)
    buffer = memoryview(bytearray(size))
    done = 0
    while done < total:
        count = os.preadv(source, [buffer[: min(size, total - done)]], done)
        done += os.pwrite(target, buffer[:count], done)


if __name__ == "__main__":
    main()
