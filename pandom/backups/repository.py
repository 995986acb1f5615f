"""A stack's backup repository, asked through pgBackRest; its errors in people's words."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pandom.runtime.errors import Busy, Failure, PandomError, UsageError
from pandom.runtime.naming import HOST_BACKUP, STANZA, resource_name
from pandom.runtime.progress import shorten
from schema.storage import OWN_STORE

PROGRAM: Final = "pandom-backup"
_SEGMENT: Final = re.compile(r"/([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?$")
# A backup, or the log of a cluster, in what `verify` says; without counts if nothing was read.
_VERIFIED: Final = re.compile(
    r"^ *(archiveId|backup): ([^\s,]+)(?:, status: ([^,\n]+))?, total [^\n]*"
    r"(?:\n +(missing: .*))?$",
    re.MULTILINE,
)
# Each cluster has a folder there: 17-1, and 18-2 after an upgrade.
_CLUSTER: Final = re.compile(r"[0-9.]+-([0-9]+)(?:/|$)")
_HISTORY: Final = re.compile(r"(?:^|/)([0-9A-F]{8})\.history$")
# How much is done, in pgBackRest's words.
SHARE: Final = re.compile(r", ([0-9]+)\.[0-9][0-9]%\)")
# pgBackRest's codes for a repository without a backup, and for several that differ in that.
_NOTHING_THERE: Final = (1, 2, 3)
_MIXED: Final = 4
_PER_LOG: Final = 256  # segments of 16 MB in what the middle of a name counts

_LATE: Final = "was not archived before"
_PROBE: Final = "written"  # a file's name
_EDIT: Final = "Next: correct it in stacks/Pulumi.{stack}.yaml, then `pandom up --stack {stack}`"
_KEYS: Final = (
    "Next: `pulumi config set --stack {stack} --secret backupAccessKey` (and backupSecretKey), "
    "then `pandom up --stack {stack}`"
)
_ANOTHER: Final = "What is in the store under /{stack} was made of another database cluster"
_OR_RESTORE: Final = (
    "Next: if this database takes the place of one that was lost, `pandom restore --stack {stack}` "
    "brings\nthat one back. Else see docs/backup.md, A repository of another stack; what is there "
    "stays as it is"
)
_RENEW: Final = "Next: `pandom up --stack {stack}`, which renews certificates"
_SERVER: Final = "Next: `pandom up --stack {stack}`; docker logs pandom-{stack}-backup-server"
_HEAL: Final = "Next: `pandom up --stack {stack}` makes the store's user and bucket again"
_LOCKED: Final = r"unable to acquire lock"
# What pgBackRest, the container that reads the database's files, or the store says; what it means;
# next, with a store elsewhere and with the stack's own; whether the stack's file is at fault.
_CAUSES: Final[tuple[tuple[str, str, str, str, bool], ...]] = (
    (
        r"^pandom-backup: (\S+: .*)",
        "The store does not answer: {found}",
        "Next: look at the store and at the network between; if the address is wrong, correct "
        "backupEndpoint in stacks/Pulumi.{stack}.yaml",
        "Next: `pandom up --stack {stack}` starts the store",
        False,
    ),
    (
        rf"certificate presented by '{HOST_BACKUP}|{HOST_BACKUP}[^\n]*(?:certificate|tlsv1 alert)",
        f"The certificates between the containers operations and {HOST_BACKUP} do not verify",
        _RENEW,
        _RENEW,
        False,
    ),
    (
        rf"(?:connect|connection|address|timeout|read|write)[^\n]*'{HOST_BACKUP}\b",
        f"The container {HOST_BACKUP}, which reads the database's files, does not answer",
        _SERVER,
        _SERVER,
        False,
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch",
        "The store does not know backupAccessKey with this backupSecretKey",
        _KEYS,
        _HEAL,
        True,
    ),
    (r"NoSuchBucket", "The store has no such bucket as backupBucket says", _EDIT, _HEAL, True),
    (
        r"AccessDenied|\b403\b",
        "The store denies what is needed, or has no such bucket",
        "Next: give the user the rights in docs/backup.md; or correct backupBucket",
        _HEAL,
        False,
    ),
    (
        r"StorageFull|QuotaExceeded|InsufficientStorage|EntityTooLarge|\b507\b",
        "The store is full",
        "Next: make room there, or keep fewer backups (backupKeepFulls)",
        "Next: make room on the host's disk (`docker system df`), or keep fewer backups "
        "(backupKeepFulls)",
        False,
    ),
    (
        r"key/value found outside of section|CryptoError|cipher header|FormatError",
        "What is in the store under /{stack} does not open with this stack's repository key: "
        "it is another stack's, or of an earlier stack of this name",
        "Next: choose another bucket (backupBucket), or give this stack the key that it had "
        "(docs/backup.md)",
        "Next: see docs/backup.md, A repository of another stack",
        True,
    ),
    (r"do not match the database|system-id", _ANOTHER, _OR_RESTORE, _OR_RESTORE, True),
    (
        _LOCKED,
        "Another backup of this stack is running",
        "Next: wait for it; `pandom backups` shows when it is there",
        "Next: wait for it; `pandom backups` shows when it is there",
        True,
    ),
    (
        _LATE,
        "The server's log did not reach the store in time",
        "Next: `docker logs pandom-{stack}-postgres` says why archive-push failed",
        "Next: `docker logs pandom-{stack}-postgres` says why archive-push failed",
        False,
    ),
    (
        r"HostConnectError|unable to connect|timeout|timed out|unexpected eof|\b50[234]\b",
        "The store stopped answering",
        "Next: look at the store, then again; nothing that was there is harmed",
        "Next: `pandom up --stack {stack}`, then again; nothing that was there is harmed",
        False,
    ),
)
_CERTIFICATE: Final = 202
_FILE_MISSING: Final = 55


@dataclass(frozen=True)
class Backup:
    """One backup; sizes in bytes, ``stored`` is what it added to the store.

    ``repository`` is 1 with the present key, and more with a former one.
    """

    label: str
    type: str
    started: datetime
    stopped: datetime
    size: int
    stored: int
    first_wal: str
    last_wal: str
    prior: str | None
    damaged: bool
    repository: int = 1

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "label": self.label,
            "type": self.type,
            "started": self.started.isoformat(),
            "stopped": self.stopped.isoformat(),
            "size": self.size,
            "stored": self.stored,
            "wal": [self.first_wal, self.last_wal],
            "prior": self.prior,
            "damaged": self.damaged,
            "former_key": self.repository > 1,
        }


class AnotherCluster(UsageError):
    """The ``backups`` are of another database cluster than the one that is served."""

    def __init__(self, words: str, backups: list[Backup]) -> None:
        super().__init__(words)
        self.backups = backups


@dataclass(frozen=True)
class Gap:
    """Segments of the server's log that are missing, the first and the last of a row."""

    first: str
    last: str

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


def _of_entry(entry: Mapping[str, Any]) -> Backup:
    return Backup(
        label=entry["label"],
        type=entry["type"],
        started=datetime.fromtimestamp(entry["timestamp"]["start"], UTC),
        stopped=datetime.fromtimestamp(entry["timestamp"]["stop"], UTC),
        size=entry["info"]["size"],
        stored=entry["info"]["repository"]["delta"],
        first_wal=entry["archive"]["start"],
        last_wal=entry["archive"]["stop"],
        prior=entry["prior"],
        damaged=bool(entry["error"]),
        repository=entry["database"]["repo-key"],
    )


def _served(clusters: Iterable[Mapping[str, Any]]) -> tuple[int | None, dict[int, int]]:
    """Return which system the repository is of now, and the number that it has with each key.

    The present key comes first. With each one a cluster after an upgrade has the next number, so
    one with a number above the first ends it: former keys have what was before.
    """
    newest: dict[int, Mapping[str, Any]] = {}
    for one in sorted(clusters, key=lambda one: (one["repo-key"], one["id"])):
        newest[one["repo-key"]] = one
    system: int | None = None
    ids: dict[int, int] = {}
    for key, one in newest.items():
        if ids and one["system-id"] != system:
            break
        system, ids[key] = one["system-id"], one["id"]
        if one["id"] > 1:
            break
    return system, ids


def _number(segment: str) -> int:
    return int(segment[8:16], 16) * _PER_LOG + int(segment[16:], 16)


def _name(timeline: str, number: int) -> str:
    return f"{timeline}{number // _PER_LOG:08X}{number % _PER_LOG:08X}"


def gaps(segments: Iterable[str], since: str, until: str = "") -> list[Gap]:
    """Return what is missing between ``since`` and the newest segment of each timeline.

    ``until`` is a segment that must be there, too, or "". pgBackRest looks at what is there
    only: it reports a log with a hole in it as valid, and a restore ends at the hole.
    """
    there: dict[str, set[int]] = {}
    for name in segments:
        if name >= since:
            there.setdefault(name[:8], set()).add(_number(name))
    newest = {timeline: max(numbers) for timeline, numbers in there.items()}
    if until and until >= since:
        newest[until[:8]] = max(newest.get(until[:8], 0), _number(until))
    found: list[Gap] = []
    for timeline, last in sorted(newest.items()):
        known = there.get(timeline, set())
        first = _number(since) if timeline == since[:8] else min(known, default=last)
        missing: list[int] = []
        for number in range(first, last + 2):
            if number <= last and number not in known:
                missing.append(number)
            elif missing:
                found.append(Gap(_name(timeline, missing[0]), _name(timeline, missing[-1])))
                missing = []
    return found


Show = Callable[[str], None]


@dataclass(frozen=True)
class Repository(ABC):
    """The repository of a stack; where pgBackRest runs is the business of who extends it."""

    stack: str
    kind: str

    @abstractmethod
    def ask(
        self, arguments: Sequence[str], show: Show | None, *, makes: bool
    ) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr of pgBackRest; ``show`` gets each line as it comes.

        ``makes``: it asks the database's server, so it runs where all backups are made and one
        excludes the other. Anything else may run wherever the repository can be read.
        """

    def run(self, *arguments: str, show: Show | None = None) -> str:
        """Return what pgBackRest prints. Raises PandomError with cause and next step."""
        return self._answer(self.ask(arguments, show, makes=False))

    def make(self, *arguments: str, show: Show | None = None) -> str:
        """Do the same where backups are made."""
        return self._answer(self.ask(arguments, show, makes=True))

    def _answer(self, answer: tuple[int, str, str]) -> str:
        code, out, err = answer
        if code:
            said = f"{err}\n{out}"
            raise (_LATE in said and self.refusal()) or self.explained(code, said)
        return out

    def refusal(self) -> PandomError | None:
        """Return why nothing can be written to the repository, by trying to; None if it can.

        Who waits for the server's log sees that it is late, and not why.
        """
        code, out, err = self.ask(("repo-put", _PROBE), None, makes=False)
        if code:
            return self.explained(code, f"{err}\n{out}")
        self.ask(("repo-rm", _PROBE), None, makes=False)
        return None

    def explained(self, code: int, said: str) -> PandomError:
        """Return the error in people's words."""
        if code == _CERTIFICATE:
            reason = said.strip().partition("pandom-backup: ")[2]
            return UsageError(
                f"The store's certificate is not vouched for: {shorten(reason, 200)}\n"
                + self._next(
                    "Next: correct backupCa in stacks/Pulumi.{stack}.yaml (the CA's PEM, or a "
                    "file with it),\nor give the store a certificate for its address; then "
                    "`pandom up --stack {stack}`",
                    _HEAL,
                )
            )
        for pattern, words, elsewhere, own, mistake in _CAUSES:
            if found := re.search(pattern, said, re.MULTILINE):
                text = words.format(stack=self.stack, found=(found.groups() or ("",))[0])
                kind = Busy if pattern == _LOCKED else UsageError if mistake else Failure
                return kind(f"{text}.\n{self._next(elsewhere, own)}")
        lines = [line for line in said.splitlines() if "ERROR: " in line] or said.splitlines()
        reason = lines[0].partition("ERROR: ")[2] or lines[0] if lines else "it said nothing"
        plain = "".join(one for one in reason if one.isprintable())
        return Failure(
            f"pgBackRest ended with {code}: {shorten(plain, 300)}\n"
            f"Next: docker exec {resource_name(self.stack, 'postgres')} {PROGRAM} info"
        )

    def _next(self, elsewhere: str, own: str) -> str:
        return (own if self.kind == OWN_STORE else elsewhere).format(stack=self.stack)

    def backups(self, system: int | None = None) -> list[Backup]:
        """Return every backup, oldest first, but for those of before an upgrade: they stay in the
        store until they expire.

        ``system`` is the system identifier of the cluster that they must be of: pgBackRest
        refuses another one too, but only after it waited for its log.
        Raises PandomError for that, and for a store that cannot be read.
        """
        found = self._info()
        found = self._info()
        served, ids = _served(found["db"])
        every = sorted(
            (
                _of_entry(one)
                for one in found["backup"]
                if ids.get(one["database"]["repo-key"]) == one["database"]["id"]
            ),
            key=lambda one: one.started,
        )
        if system is not None and found["backup"] and served != system:
            raise AnotherCluster(str(self.explained(1, "system-id")), every)
        return every

    def is_made(self) -> bool:
        """Return whether there is one with the present key; raises as backups() does."""
        return any(one["repo-key"] == 1 for one in self._info()["db"])

    def _info(self) -> Mapping[str, Any]:
        said = self.run("--output=json", "info")
        try:
            # Of a file that another key encrypted it quotes the bytes as they are.
            found: Mapping[str, Any] = json.loads(said, strict=False)[0]
        except ValueError:
            raise self.explained(1, said) from None
        # The exit code is 0 whatever it found.
        for one in (found, *found.get("repo", ())):
            code = one["status"]["code"]
            if code and code not in (*_NOTHING_THERE, _MIXED):
                said = " ".join(each["status"]["message"] for each in found.get("repo", ()))
                raise self.explained(code, said or found["status"]["message"])
        return found

    def segments(self, since: Backup) -> dict[str, datetime]:
        """Return the segments of the server's log in the store that can follow a backup, and when
        each was written there: what came after a rotation has the keys after the backup's."""
        return {
            found[1]: datetime.fromtimestamp(entry["time"], UTC)
            for name, entry in self._log(since.repository).items()
            if (found := _SEGMENT.search(name))
        }

    def histories(self, repositories: int = 1) -> set[str]:
        """Return the timelines that the store has the history of, with so many keys."""
        return {found[1] for name in self._log(repositories) if (found := _HISTORY.search(name))}

    def _log(self, repositories: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in range(1, repositories + 1):
            asked = (f"--repo={one}", "--output=json", "--recurse", "repo-ls", f"archive/{STANZA}")
            listed: dict[str, Any] = json.loads(self.run(*asked) or "{}")
            of = {name: int(cluster[1]) for name in listed if (cluster := _CLUSTER.match(name))}
            newest = max(of.values(), default=0)
            found |= {name: listed[name] for name in of if of[name] == newest}
        return found

    def unbacked(self, every: Sequence[Backup], timeline: str) -> str | None:
        """Return why nothing brings back what the served cluster commits on this timeline."""
        number = int(timeline, 16)
        if every and every[-1].first_wal[:8] != timeline:
            return (
                f"the served database is of timeline {number}, and the newest backup, "
                f"{every[-1].label}, of {int(every[-1].first_wal[:8], 16)}"
            )
        if number > 1 and timeline not in self.histories():
            return f"the history of timeline {number}, which is served, is not in the store"
        return None

    def holes(self, since: Backup, until: str = "") -> list[Gap]:
        """Return what is missing of the log after a backup, in the history that it is of."""
        first = since.first_wal
        return gaps((one for one in self.segments(since) if one[:8] == first[:8]), first, until)

    def back_up(self, kind: str, show: Show) -> Backup:
        """Make a backup and return it, the repository too if it is not there; older backups stay
        until `expire`, which may be denied and must not look like a failed backup."""
        asked = (f"--type={kind}", "--no-expire-auto", "--log-level-console=detail", "backup")
        answer = self.ask(asked, show, makes=True)
        if answer[0] == _FILE_MISSING and "backup.info" in "".join(answer[1:]):
            self.create()
            answer = self.ask(asked, show, makes=True)
        self._answer(answer)
        return self.backups()[-1]

    def event(self, made: Backup) -> dict[str, str]:
        """Return what the trail says of a backup."""
        return {"label": made.label, "type": made.type, "store": self.kind}

    def expire(self, tell: Show) -> None:
        """Let those leave that are older than the kept; tell when the store denies that."""
        try:
            self.make("expire")
        except PandomError as error:
            tell(f"older backups were not removed: {str(error).splitlines()[0]}")

    def create(self) -> None:
        """Make the repository; one that is there and ours stays as it is."""
        self.make("stanza-create")

    def verify(self, every: Iterable[Backup]) -> list[str]:
        """Return what pgBackRest finds damaged of these and of the log, in its words; it exits with
        0 all the same, also for a store that cannot be read: that listing them told."""
        found: list[str] = []
        for one in sorted({backup.repository for backup in every}):
            labels = [backup.label for backup in every if backup.repository == one]
            said = self.run(f"--repo={one}", "--output=text", "--verbose", "verify")
            found += damaged(said, labels)
        return found


def damaged(said: str, labels: Collection[str]) -> list[str]:
    """Return what `verify` found wrong in the log and in these backups, one sentence each.

    A folder of any other is what an expired or an interrupted one left: nobody restores it.
    """
    found, strays, missing = [], False, set(labels)
    for kind, name, status, counts in _VERIFIED.findall(said):
        wrong = [one.strip() for one in counts.split(",") if one and not one.endswith(": 0")]
        wrong = [*([] if status in ("", "valid") else [status]), *wrong]
        if kind == "backup" and name not in labels:
            strays = strays or bool(wrong)
            continue
        missing.discard(name)
        if wrong:
            found.append(f"{kind}: {name}: {', '.join(wrong)}")
    found += [f"backup: {one}: not there" for one in sorted(missing)]
    if not found and not strays and "status: error" in said:
        return [shorten(said, 300)]
    return found
