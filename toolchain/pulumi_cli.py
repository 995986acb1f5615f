"""The Pulumi CLI, and the official language host if there is one."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tarfile
from pathlib import Path
from typing import Final

from pandom.runtime.paths import ROOT, cache_home, home
from toolchain import cache, golang, network, pins, process, search
from toolchain.errors import ToolMissing
from toolchain.report import Step

MODULE: Final = ROOT / "toolchain" / "go_modules" / "pulumi-cli"
_SDK: Final = "github.com/pulumi/pulumi/sdk/v3"
_RELEASES: Final = "https://get.pulumi.com/releases/sdk"
_ARCHITECTURES: Final = {"x86_64": "x64", "aarch64": "arm64"}
HOST: Final = "pulumi-language-python"
EXEC: Final = "pulumi-language-python-exec"


def _tools() -> Path:
    return cache_home() / "tools"


def _official() -> Path:
    return _tools() / f"pulumi-{pins.pulumi()}-official"


def _built() -> Path:
    sources = ((MODULE / name).read_bytes() for name in ("go.mod", "go.sum", "tools.go"))
    return _tools() / f"pulumi-{pins.pulumi()}-{cache.key(*sources)}"


def _exec_folder() -> Path:
    return _tools() / f"{EXEC}-{pins.pulumi()}"


def find() -> tuple[Path, str] | None:
    """Return the CLI and where it came from: PATH, the official download, our own build."""
    path = search.on_path("pulumi")
    if path and pins.satisfies(search.version(path, "version"), pins.pulumi()):
        return path, "PATH"
    for folder, origin in ((_official(), "official download"), (_built(), "built with Go")):
        if cache.complete(folder):
            return folder / "pulumi", origin
    return None


def find_host() -> Path | None:
    """Return the official language host: beside the CLI that is used, or on PATH."""
    cli = find()
    beside = cli[0].resolve().with_name(HOST) if cli else None
    return beside if beside and beside.is_file() else search.on_path(HOST)


def find_exec() -> Path | None:
    """Return the script that runs the program, from beside the host, PATH or the Go module."""
    host = find_host()
    beside = host.resolve().with_name(EXEC) if host else None
    if beside and beside.is_file():
        return beside
    cached = _exec_folder()
    return search.on_path(EXEC) or (cached / EXEC if cache.complete(cached) else None)


def provide(step: Step) -> None:
    """Provide the CLI: PATH → official download → built from its Go module."""
    if not find() and not _download(step):
        cache.entry(_built(), "Pulumi CLI", lambda path, lock: _build(step, path, lock))
    found = find()
    if found is None:
        raise ToolMissing("the Pulumi CLI was provided but is not found; run `make tools` again")
    step.source = f"{found[1]}, {found[0]}"


def provide_exec(step: Step) -> None:
    """Provide the language host's script; it is in the Go module of the SDK, not in the wheel."""

    def make(path: Path, lock: int) -> None:
        step.working("fetching the SDK's Go module")
        folder = golang.module_folder("Pulumi SDK module", MODULE, _SDK, lock)
        shutil.copyfile(folder / "python" / "cmd" / EXEC, path / EXEC)
        (path / EXEC).chmod(0o755)

    if not find_exec():
        cache.entry(_exec_folder(), EXEC, make)
    step.source = f"{find_exec()}"


def _build(step: Step, path: Path, lock: int) -> None:
    step.working(f"building {pins.pulumi()} with Go; some 5 minutes on two cores, once")
    stamp = f"-X {_SDK}/go/common/version.Version=v{pins.pulumi()}"
    golang.build(
        "Pulumi CLI",
        MODULE,
        "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        path / "pulumi",
        lock,
        stamp,
    )


def archive() -> str | None:
    """Return the name of the official archive for this machine, or None if there is none."""
    architecture = _ARCHITECTURES.get(platform.machine())
    return f"pulumi-v{pins.pulumi()}-linux-{architecture}.tar.gz" if architecture else None


def archive_url() -> str | None:
    """Return where the official archive for this machine is, or None if there is none."""
    name = archive()
    return f"{_RELEASES}/{name}" if name else None


def checksum(listing: str, name: str) -> str | None:
    """Read a file's SHA-256 from the release's own list ("<hex>  <name>" a line)."""
    found = re.search(rf"(?m)^([0-9a-f]{{64}})\s+\*?{re.escape(name)}$", listing)
    return found[1] if found else None


def _download(step: Step) -> bool:
    name = archive()
    if not name or not network.allowed(f"{_RELEASES}/{name}"):
        return False

    def make(path: Path, lock: int) -> None:
        del lock  # no child of ours goes on after us
        step.working(f"downloading {name}")
        listing = network.text(f"{_RELEASES}/pulumi-{pins.pulumi()}-checksums.txt")
        expected = checksum(listing, name)
        if not expected:
            raise ToolMissing(f"the release's list of checksums has no {name}")
        packed = path / name
        network.download(f"{_RELEASES}/{name}", packed, expected)
        with tarfile.open(packed) as tar:
            tar.extractall(path, filter="data")
        packed.unlink()
        # The archive holds one folder; its programs must lie where find() looks.
        for program in (path / "pulumi").iterdir():
            program.rename(path / f".{program.name}")
        (path / "pulumi").rmdir()
        for program in path.glob(".pulumi*"):
            program.rename(path / program.name[1:])

    try:
        cache.entry(_official(), "Pulumi CLI", make)
    except ToolMissing as error:
        step.working(f"not downloaded ({error}); it is built instead")
        return False
    return True


def install_plugin(step: Step, name: str, version: str) -> bool:
    """Let the CLI download an official provider plugin into its own folder."""
    cli = find()
    if cli is None:
        return False
    step.working(f"downloading the official plugin {name} {version}")
    try:
        process.run(
            f"plugin {name}",
            [cli[0], "plugin", "install", "resource", name, version],
            hint="",
            variables={"PULUMI_SKIP_UPDATE_CHECK": "true"},
            limit_s=180,
        )
    except ToolMissing as error:
        step.working(f"not downloaded: {error}")
        return False
    return True


def plugin_version(path: Path) -> str:
    """Ask a provider for its version, through its schema: not every one has ``--version``."""
    cli = find()
    if cli is None:
        return ""
    schema = process.output(
        [cli[0], "package", "get-schema", path], variables={"PULUMI_SKIP_UPDATE_CHECK": "true"}
    )
    try:
        return str(json.loads(schema or "{}").get("version", ""))
    except (ValueError, AttributeError):
        return ""


def plugin_folder(name: str, version: str) -> Path:
    """Return where the CLI keeps an installed provider plugin."""
    given = os.environ.get("PULUMI_HOME")
    folder = Path(given) if given else home() / ".pulumi"
    return folder / "plugins" / f"resource-{name}-v{version}"
