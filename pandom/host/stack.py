"""A stack's names and files, and its configuration file in this clone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pandom.config.settings import (
    SECRET_KEYS,
    STACK_NAME,
    Settings,
    SettingsError,
    changes,
    defaults,
    plain_secret,
)
from pandom.config.settings import load as load_settings
from pandom.host.state import State
from pandom.runtime import paths
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import PROJECT
from toolchain import cache

# The template of each profile (stacks/templates).
TEMPLATES: Final = {"development": "dev", "ephemeral": "ci", "production": "prod"}
_SHOWN: Final = 60  # characters of a value in a message
_TAKEN: Final = ("backend", "locks", "environments")  # folders beside the stacks' own


@dataclass(frozen=True)
class Stack:
    """A stack by name; everything else about it is derived."""

    name: str

    def __post_init__(self) -> None:
        if not STACK_NAME.fullmatch(self.name) or self.name in _TAKEN:
            raise UsageError(
                f"--stack {self.name!r}: expected up to 30 of a-z, 0-9 and -, a letter first."
            )

    @property
    def qualified(self) -> str:
        """The name as the file backend wants it, so that no selected stack matters."""
        return f"organization/{PROJECT}/{self.name}"

    @property
    def home(self) -> Path:
        """The stack's files outside the clone."""
        return paths.stack_home(self.name)

    @property
    def file(self) -> Path:
        """The live configuration in this clone."""
        return paths.stack_file(self.name)

    @property
    def kept_file(self) -> Path:
        """The copy from which another clone gets the same configuration."""
        return self.home / self.file.name

    @property
    def checkpoint(self) -> Path:
        """Pulumi's state of the stack; exists from `stack init` to `stack rm`."""
        return paths.states() / f"{self.name}.json"

    def recorded(self) -> State:
        """Return what the state says, read without Pulumi; secrets stay encrypted."""
        return State.of_file(self.checkpoint)

    def exists(self) -> bool:
        """Return whether there is a state."""
        return self.checkpoint.exists()

    @property
    def short_lived(self) -> bool:
        """Whether the stack belongs to a test or to CI: its ports are reserved, not fixed."""
        return self.name == "ci" or self.name.startswith(("test-", "ci-"))

    @property
    def profile(self) -> str:
        """The profile that a new stack gets, unless told."""
        if self.short_lived:
            return "ephemeral"
        return "production" if self.name.startswith("prod") else "development"


def write_atomically(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    """Replace a file so that a kill leaves the old or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(text.encode() if isinstance(text, str) else text)
            sink.flush()
            os.fsync(sink.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def prepare_folder(stack: Stack) -> None:
    """Make sure that a wheel's stack has its own copy of the program, this wheel's."""
    place = paths.work_folder(stack.name)
    if place == paths.ROOT:
        return
    mark, name = place / paths.MARK, (paths.ROOT / paths.MARK).read_text()
    if mark.is_file() and mark.read_text() == name:
        return
    mark.unlink(missing_ok=True)
    for path in (*place.glob("*"), *place.glob("stacks/*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path) if path.name != "stacks" else None
        elif not path.name.startswith("Pulumi."):
            path.unlink()
    shutil.copytree(
        paths.ROOT,
        place,
        symlinks=True,  # .venv is one
        dirs_exist_ok=True,
        copy_function=_copied,
        ignore=shutil.ignore_patterns(paths.MARK, "*.pyc.*", "Pulumi.*.yaml"),
    )
    write_atomically(mark, name, 0o644)


def _copied(source: str, target: str) -> None:
    if "artifacts" in Path(source).parts:
        cache.place(Path(source), Path(target))  # a link, as it is there
    else:
        shutil.copy2(source, target)


def prepare_file(stack: Stack, profile: str | None = None) -> str | None:
    """Make sure that this clone has the stack's file; return a line if it was written.

    From the copy of the last run, so that clones see the same stack, else the template.
    """
    prepare_folder(stack)
    if stack.file.exists():
        forget_salt(stack)
        return None
    if stack.exists() and stack.kept_file.exists():
        write_atomically(stack.file, stack.kept_file.read_bytes(), 0o644)
        forget_salt(stack)
        return f"stacks/{stack.file.name} restored from the last run"
    name = TEMPLATES[profile or stack.profile]
    source = paths.ROOT / "stacks" / "templates" / f"{name}.yaml"
    write_atomically(stack.file, source.read_text(), 0o644)
    return f"stacks/{stack.file.name} copied from templates/{name}.yaml; yours to edit"


def forget_salt(stack: Stack) -> bool:
    """Remove another state's salt, with which Pulumi finds the passphrase wrong.

    Returns False if the file holds secrets that belong to that salt.
    """
    text = _text(stack)
    found = re.search(r"^encryptionsalt:[ \t]*(\S*).*\n?", text, re.MULTILINE)
    if found is None or found[1].strip("\"'") == stack.recorded().salt:
        return True
    if "secure:" in text:
        return False
    write_atomically(stack.file, text.replace(found[0], ""), 0o644)
    return True


def keep_copy(stack: Stack) -> None:
    """Keep the file for other clones, after each run. It holds no secret in clear."""
    if stack.file.exists() and stack.exists():
        text = stack.file.read_bytes()
        with contextlib.suppress(FileNotFoundError):
            if stack.kept_file.read_bytes() == text:
                return
        write_atomically(stack.kept_file, text)


class _Once(yaml.SafeLoader):
    """Refuses a key that is written twice, as Pulumi does; PyYAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"written twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _text(stack: Stack, file: Path | None = None) -> str:
    try:
        return (file or stack.file).read_text()
    except UnicodeDecodeError as error:
        raise SettingsError(stack.name, ["not UTF-8: save it in that encoding"]) from error


def read_file(stack: Stack, file: Path | None = None) -> Mapping[str, Any]:
    """Return the keys under ``config:``, of another ``file`` than the stack's if one is given.

    Raises SettingsError when the file is no YAML of that shape.
    """
    try:
        document = yaml.load(_text(stack, file), _Once)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise SettingsError(
            stack.name, [f"not YAML: {said}; keys stand under `config:`, indented by two spaces"]
        ) from error
    config = (document or {}).get("config") if isinstance(document or {}, Mapping) else None
    if config is None and isinstance(document or {}, Mapping):
        return {}
    if not isinstance(config, Mapping):
        raise SettingsError(stack.name, ["expected a mapping under the key config"])
    return config


def edited(stack: Stack) -> Iterator[str]:
    """Yield a line for each setting that was edited since the last run, and what `up` does then.

    Of a secret only that it was.
    """
    if not stack.kept_file.exists():
        return
    before, now = (
        {str(key).removeprefix(f"{PROJECT}:"): value for key, value in found.items()}
        for found in (read_file(stack, stack.kept_file), read_file(stack))
    )
    given = defaults()
    for key, what in changes().items():
        old, new = (found.get(key, given[key]) for found in (before, now))
        if old != new:
            secret = key in SECRET_KEYS
            values = "another value" if secret else f"{_shown(old)} → {_shown(new)}"
            yield f"{key}: {values}: {what}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def settings(stack: Stack, decrypt: Callable[[], Mapping[str, str]] | None = None) -> Settings:
    """Return the validated settings; raises SettingsError with every problem.

    ``decrypt`` returns the file's encrypted values, so that they are checked, too, before anything
    is touched; it is called only if there are any.
    """
    raw: dict[str, object] = {str(key): value for key, value in read_file(stack).items()}
    encrypted = [
        key for key, value in raw.items() if isinstance(value, Mapping) and set(value) == {"secure"}
    ]
    if decrypt is not None and encrypted:
        clear = decrypt()
        raw |= {key: clear[key] for key in encrypted if key in clear}
    found = load_settings(stack.name, raw)
    plain = [key for key, value in found.overrides.items() if value and not _among(key, encrypted)]
    if plain:
        raise SettingsError(stack.name, [plain_secret(stack.name, key) for key in plain])
    return found


def _among(key: str, names: list[str]) -> bool:
    return key in names or f"{PROJECT}:{key}" in names


def set_values(stack: Stack, values: Mapping[str, int | bool | str]) -> None:
    """Write values into the stack's file, leaving its comments alone."""
    write_atomically(stack.file, with_values(_text(stack), values), 0o644)


def with_values(text: str, values: Mapping[str, int | bool | str]) -> str:
    """Return the text of a stack's file with these values, its comments as they were."""
    for key, value in values.items():
        line = f"  {PROJECT}:{key}: {json.dumps(value)}"
        under = f"config:\n{line}"
        for place, new in ((rf"^\s+{PROJECT}:{key}:.*$", line), (r"^config:\s*$", under)):
            if found := re.search(place, text, re.MULTILINE):
                text = text[: found.start()] + new + text[found.end() :]
                break
        else:
            text = f"{text.rstrip()}\nconfig:\n{line}\n"
    return text


def forget(stack: Stack) -> None:
    """Remove every file of a stack that has been destroyed (history, backups and .bak too)."""
    pulumi = paths.backend() / ".pulumi"
    for folder in (
        pulumi / "history" / PROJECT / stack.name,
        pulumi / "backups" / PROJECT / stack.name,
        pulumi / "locks" / "organization" / PROJECT / stack.name,
    ):
        shutil.rmtree(folder, ignore_errors=True)
    for path in stack.checkpoint.parent.glob(f"{stack.name}.json*"):
        path.unlink(missing_ok=True)
    for path in stack.file.parent.glob(f"{stack.file.name}*"):
        path.unlink(missing_ok=True)
    shutil.rmtree(stack.home, ignore_errors=True)
