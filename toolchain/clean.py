"""Taking away what can be made again: the clone's caches and images, or the user's cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from pandom.runtime.naming import BASE_IMAGE, PROJECT
from pandom.runtime.paths import ROOT, cache_home
from toolchain import process, venv
from toolchain.report import say

# All entrypoints of app_image/ begin so: pandom, pandom-postgres, pandom-minio.
_ENTRYPOINT: Final = "/usr/local/bin/pandom"
_CACHES: Final = (".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis")


def clone() -> None:
    """Remove the project's images and this clone's caches; stacks and their state stay."""
    for image in (*_tagged(), *_superseded()):
        _remove_image(image)
    if venv.LINK.is_symlink():
        venv.LINK.unlink()
        say("removed .venv (a link; the environment itself stays in the user's cache)")
    # Environments for CI begin with what was prepared from the images.
    folders = (*(ROOT / name for name in _CACHES), ROOT / "app_image" / "artifacts")
    for folder in (*folders, cache_home() / "environments"):
        _remove_folder(folder)
    for folder in _bytecode():
        shutil.rmtree(folder, ignore_errors=True)


def tools() -> None:
    """Remove the user's cache and the base image, so that the next run makes them afresh."""
    _remove_folder(cache_home())
    if process.output(["docker", "image", "inspect", BASE_IMAGE]):
        _remove_image(BASE_IMAGE)


def _tagged() -> list[str]:
    names = ["--format={{.Repository}}:{{.Tag}}", f"{PROJECT}/*"]
    return (process.output(["docker", "image", "ls", *names]) or "").split()


def _superseded() -> list[str]:
    """Images of ours that lost their tag to a newer build; known by their entrypoint."""
    images = (
        process.output(["docker", "image", "ls", "--quiet", "--filter=dangling=true"]) or ""
    ).split()
    form = "--format={{.Id}} {{range .Config.Entrypoint}}{{.}}{{end}}"
    shown = process.output(["docker", "image", "inspect", form, *images]) if images else ""
    return [
        line.split()[0]
        for line in (shown or "").splitlines()
        if line.split()[1:2] and line.split()[1].startswith(_ENTRYPOINT)
    ]


def _bytecode() -> list[Path]:
    return [
        Path(folder) / "__pycache__"
        for folder, names, _ in os.walk(ROOT)  # does not follow .venv
        if "__pycache__" in names
    ]


def _remove_folder(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
        say(f"removed {folder}")


def _remove_image(image: str) -> None:
    # Without force, which would remove images of stopped containers.
    done = process.output(["docker", "image", "rm", image])
    say(f"removed image {image}" if done else f"kept image {image}: a container uses it")
