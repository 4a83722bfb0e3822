"""The model library beside the Hugging Face client, from a loopback Hub: `python -m benchmarks.library`.

1. Verifying: ours against `HfApi().verify_repo_checksums`, and as a share of what the cores and the disk can do.
2. Downloading, hashed as it comes, against `snapshot_download` (over HTTP): at a served rate, and at none.
3. Memory of a download, of a small and of a large file.
4. How long a download takes to stop: while bytes flow, in a stalled body, before there is any answer.
5. `wan-tui models list` with a thousand files on disk.

What is compared runs in turns, each time in a process of its own, timed after its imports. A turn during which other
programs took the cores is taken again, up to three of a part; what they took is printed where one stayed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.library import parts
from benchmarks.library.served import Bench

PARTS = {
    "verify": parts.verify,
    "download": parts.download,
    "memory": parts.memory,
    "cancel": parts.cancel,
    "list": parts.listing,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.library", description="Measure the model library.")
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="this part; may be repeated")
    parser.add_argument("--pairs", type=int, default=5, help="turns of verifying (%(default)s)")
    parser.add_argument("--verify-mb", type=int, default=1000, help="size of each of two files (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of downloading (%(default)s)")
    parser.add_argument("--download-mb", type=int, default=400, help="size of each of four files (%(default)s)")
    parser.add_argument("--rate", type=float, default=200, help="MB/s served (%(default)g)")
    parser.add_argument("--memory-mb", type=int, nargs=2, default=[200, 1600], help="sizes of one file (200 1600)")
    parser.add_argument("--tries", type=int, default=20, help="cancels of each kind (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the files go, removed after; some 8 GB are needed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for part in args.only or PARTS:
            bench = Bench(Path(folder) / part)
            since = time.monotonic()
            PARTS[part](bench, args)
            print(f"  ({time.monotonic() - since:.0f} s)\n", flush=True)
            shutil.rmtree(bench.folder)


if __name__ == "__main__":
    main()
