"""``python3 -m toolchain``: provide the tools, print where each came from."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from pandom.runtime import failures, passphrase, paths, streams, surroundings, wheel
from pandom.runtime.errors import DONE, FAILED, INTERRUPTED
from toolchain import (
    base_image,
    cache,
    clean,
    environment,
    minio,
    network,
    plugins,
    prerequisites,
    process,
    venv,
    wheels,
)
from toolchain import docker_daemon as docker
from toolchain import pulumi_cli as pulumi
from toolchain.report import Report, Step, say

Work = tuple[str, Callable[[Step], None]]


def provide(quiet: bool) -> None:
    """Provide everything; ``quiet`` prints only what had to be done (`make up`, `make test`)."""
    report = Report(quiet)
    if not quiet:
        network.forget_refusal()
    paths.refuse_newer_homes()
    prerequisites.check()
    install, start = prerequisites.changes()
    if install or start:
        prerequisites.consent(prerequisites.question(install, start))
    if install:
        with report.step("Debian packages") as step:
            prerequisites.install(step, install)
    # One run at a time in each clone; the cache has its own locks.
    clone = paths.cache_home() / "locks" / f"clone-{cache.key(str(paths.ROOT))}.lock"
    with cache.locked(clone, "tools"):
        # Side by side: the builds use the processors, the rest waits for the network.
        _side_by_side(
            report,
            [
                ("Pulumi CLI", pulumi.provide),
                ("Pulumi's Python launcher", pulumi.provide_exec),
                ("MinIO", minio.provide),
            ],
            [
                ("Docker engine", docker.provide),
                ("base image", base_image.provide),
                ("Python packages", venv.provide),
                ("wheels for the image", wheels.provide),
            ],
        )
        with report.step("plugins") as step:
            plugins.provide(step)
    paths.backend().mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.mark_homes()
    found = environment.find()
    if not quiet and not wheel.copied():
        # For using pulumi by hand; `pandom up` makes it itself.
        if passphrase.ensure():
            say("  made a passphrase for the states; keep a copy of it (docs/runbook.md)")
        say('\nFor using pulumi by hand (or: eval "$(python3 -m toolchain --print-exports)"):')
        print(found.exports(), flush=True)


def _side_by_side(report: Report, *lists: list[Work]) -> None:
    """Do each list in order, the lists at the same time; the first error ends all of it."""

    def do(works: list[Work]) -> None:
        for name, work in works:
            with report.step(name) as step:
                work(step)

    with ThreadPoolExecutor(max_workers=len(lists)) as pool:
        futures: list[Future[None]] = [pool.submit(do, works) for works in lists]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            errors = [error for future in done if (error := future.exception())]
        except KeyboardInterrupt:
            process.end_all()
            raise
        if errors:
            process.end_all()
            raise errors[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, do it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m toolchain", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quiet", action="store_true", help="say only what had to be done")
    what.add_argument("--print-exports", action="store_true", help="print shell lines only")
    what.add_argument("--clean", action="store_true", help="remove images and the clone's caches")
    what.add_argument("--clean-tools", action="store_true", help="remove the user's cache")
    arguments = parser.parse_args(argv)
    surroundings.interrupt_by(signal.SIGTERM)
    surroundings.settle()
    streams.settle()
    try:
        if arguments.print_exports:
            print(environment.find().exports())
        elif arguments.clean:
            clean.clone()
        elif arguments.clean_tools:
            clean.tools()
        else:
            provide(arguments.quiet)
        if lost := streams.finish():
            raise lost
    except KeyboardInterrupt:
        print("\nInterrupted; run it again to go on.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last resort, instead of a traceback
        text, code = failures.explain(error)
        say(f"\n{text}")
        return code
    return DONE


if __name__ == "__main__":
    sys.exit(main())
