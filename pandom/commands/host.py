"""The host's sub-commands; what each one does is imported when it runs."""

from __future__ import annotations

import argparse
import os

from pandom.commands.handler import Commands, call
from pandom.host.formats import FORMATS


def _stack(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument(
        "--stack",
        default=os.environ.get("STACK") or "dev",
        help="which stack (default: $STACK or dev)",
    )
    return command


def register(commands: Commands) -> None:
    """Add them to the command line."""
    tools = commands.add_parser("tools", help="provide what this machine lacks, as `make tools`")
    tools.set_defaults(handler=call("toolchain.__main__", "provide", "quiet"), quiet=False)

    up = _stack(commands.add_parser("up", help="bring a stack up, repair it, verify it"))
    up.add_argument(
        "--profile",
        choices=("development", "ephemeral", "production"),
        help="for a stack that is new (default: by its name)",
    )
    up.set_defaults(handler=call("pandom.host.up", "run", "stack", "profile"), provides=True)

    adopt = _stack(
        commands.add_parser(
            "adopt", help="take over a stack that another state made, with its data"
        )
    )
    adopt.add_argument(
        "--profile",
        choices=("development", "ephemeral", "production"),
        help="of the stack that is taken over (default: by its name)",
    )
    adopt.set_defaults(handler=call("pandom.host.adopt", "run", "stack", "profile"))

    down = _stack(commands.add_parser("down", help="remove a stack and all of its data"))
    down.add_argument(
        "--without-state",
        action="store_true",
        help="by Docker's labels only, when the state cannot be read any more",
    )
    down.set_defaults(handler=call("pandom.host.down", "run", "stack", "without_state"))

    for name, text in (
        ("preview", "what `up` would change; changes nothing"),
        ("refresh", "compare the state with what is there, and note the differences"),
    ):
        command = _stack(commands.add_parser(name, help=text))
        command.add_argument(
            "--expect-no-changes", action="store_true", help="exit code 2 if there are any"
        )
        command.set_defaults(
            handler=call("pandom.host.compare", name, "stack", "expect_no_changes")
        )

    env = _stack(commands.add_parser("env", help="settings and secrets of a client, on stdout"))
    env.add_argument("--role", help="another login than pandom_app")
    env.add_argument(
        "--format",
        choices=FORMATS,
        default="dotenv",
        help="for whom: a dotenv library, `docker run --env-file`, a shell's eval, "
        "GitHub's $GITHUB_ENV, or JSON; default: %(default)s",
    )
    env.set_defaults(handler=call("pandom.host.access", "env", "stack", "role", "format"))

    health = _stack(commands.add_parser("health", help="check a running stack"))
    health.add_argument("--json", action="store_true", dest="as_json", help="on stdout")
    health.set_defaults(handler=call("pandom.host.health_command", "run", "stack", "as_json"))

    status = _stack(commands.add_parser("status", help="what runs"))
    status.add_argument("--all", action="store_true", dest="every", help="of every stack")
    status.set_defaults(handler=call("pandom.host.status", "run", "stack", "every"))

    schedule = _stack(commands.add_parser("schedule", help="tasks: when they run, and ran last"))
    schedule.add_argument("--format", choices=("text", "json"), default="text")
    schedule.set_defaults(handler=call("pandom.host.operations", "show", "stack", "format"))

    run = _stack(commands.add_parser("run", help="run a task of the schedule now"))
    run.add_argument("task", metavar="TASK", help="as in `pandom schedule`")
    run.set_defaults(handler=call("pandom.host.operations", "run", "task", "stack"))

    backup = _stack(commands.add_parser("backup", help="back the database up, or verify backups"))
    what = backup.add_mutually_exclusive_group()
    what.add_argument(
        "--type",
        choices=("full", "diff", "incr"),
        help="full, what changed since the last full, or since the last (default: incr; "
        "full when there is none)",
    )
    what.add_argument("--verify", action="store_true", help="read all that is there instead")
    backup.set_defaults(handler=call("pandom.host.backup", "run", "stack", "type", "verify"))

    backups = _stack(commands.add_parser("backups", help="the backups that there are"))
    backups.add_argument("--format", choices=("text", "json"), default="text")
    backups.set_defaults(handler=call("pandom.host.backup", "show", "stack", "format"))

    dumps = _stack(commands.add_parser("dumps", help="the dated dumps that there are"))
    dumps.add_argument("--format", choices=("text", "json"), default="text")
    which = dumps.add_mutually_exclusive_group()
    which.add_argument("--get", metavar="NAME", help="write one to stdout, decrypted")
    which.add_argument("--verify", metavar="NAME", help="read one back: checksum, and its list")
    dumps.set_defaults(handler=call("pandom.host.dumps", "run", "stack", "format", "get", "verify"))

    drill = _stack(
        commands.add_parser("drill", help="restore the newest backup into a copy, and look at it")
    )
    drill.set_defaults(handler=call("pandom.host.operations", "drill", "stack"))

    restore = _stack(
        commands.add_parser("restore", help="a former state, beside the running database")
    )
    restore.add_argument("--to", metavar="TIME", help="2026-11-25 14:05, UTC (default: the latest)")
    restore.add_argument("--backup", metavar="LABEL", help="as one of `pandom backups` was made")
    step = restore.add_mutually_exclusive_group()
    for name, text in (
        ("switch", "serve what was restored"),
        ("undo", "serve the former database again"),
        ("discard", "remove what lies beside the one that is served"),
    ):
        step.add_argument(f"--{name}", dest="step", action="store_const", const=name, help=text)
    restore.add_argument("--format", choices=("text", "json"), default="text")
    restore.set_defaults(
        handler=call("pandom.host.point_in_time", "run", "stack", "to", "backup", "step", "format")
    )

    upgrade = _stack(
        commands.add_parser("upgrade", help="PostgreSQL's next major version, and the way back")
    )
    after = upgrade.add_mutually_exclusive_group()
    for name, text in (
        ("undo", "serve the former version's cluster again"),
        ("discard", "remove the one that is not served"),
    ):
        after.add_argument(f"--{name}", dest="step", action="store_const", const=name, help=text)
    upgrade.set_defaults(handler=call("pandom.host.upgrade", "run", "stack", "step"))

    shell = _stack(commands.add_parser("shell", help="psql and pg_dump as pandom_user"))
    shell.set_defaults(handler=call("pandom.host.access", "shell", "stack"))

    rotate = _stack(commands.add_parser("rotate", help="a new secret, while the stack runs"))
    what = rotate.add_mutually_exclusive_group(required=True)
    what.add_argument("what", nargs="?", metavar="WHAT", help="a login, postgres, minio-root, …")
    what.add_argument(
        "--list", action="store_true", dest="listed", help="what there is, what it does to clients"
    )
    rotate.set_defaults(handler=call("pandom.host.rotate", "run", "what", "stack", "listed"))
    _recovery(commands)

    docs = commands.add_parser("docs", help="make the generated reference again (in a clone)")
    docs.set_defaults(handler=call("pandom.host.reference"), edits="docs")

    _migrate(commands)
    _db(commands)


def _recovery(commands: Commands) -> None:
    kit = _stack(
        commands.add_parser(
            "recovery-kit", help="state, passphrase and settings in one encrypted file"
        )
    )
    kit.add_argument("file", help="where to; an older kit is replaced")
    kit.add_argument(
        "--recipient",
        action="append",
        default=[],
        help="who can open it: age1… or an SSH public key; may be repeated "
        "(default: whoever knows a passphrase)",
    )
    _passphrase(kit)
    kit.set_defaults(
        handler=call(
            "pandom.host.recovery_kit", "write", "stack", "file", "recipient", "passphrase_file"
        )
    )

    recover = commands.add_parser("recover", help="on a new host: put a recovery kit's stack back")
    recover.add_argument("file", help="the kit")
    recover.add_argument(
        "--identity", action="append", default=[], help="file with the key that opens it"
    )
    _passphrase(recover)
    recover.set_defaults(
        handler=call("pandom.host.recovery_kit", "recover", "file", "identity", "passphrase_file")
    )


def _passphrase(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--passphrase-file", metavar="FILE", help="the kit's passphrase (default: asked for)"
    )


def _migrate(commands: Commands) -> None:
    migrate = commands.add_parser("migrate", help="generate, run, revert, show")
    actions = migrate.add_subparsers(metavar="ACTION", required=True)

    generate = _stack(
        actions.add_parser("generate", help="the next revision, from what is declared")
    )
    generate.add_argument("message", help="what it does; becomes the file's name")
    generate.add_argument("--empty", action="store_true", help="for a change of data")
    generate.set_defaults(
        handler=call("pandom.host.generate", "generate", "stack", "message", "empty"),
        edits="migrate generate",
    )

    freeze = actions.add_parser(
        "freeze", help="the newest revision's text anew, while it is not released"
    )
    freeze.add_argument("number", nargs="?", help="it must be the newest (default: the newest)")
    freeze.set_defaults(
        handler=call("pandom.host.generate", "freeze", "number"), edits="migrate freeze"
    )

    _stack(actions.add_parser("run", help="apply what is not applied yet")).set_defaults(
        handler=call("pandom.host.migrate", "run", "stack")
    )

    revert = _stack(
        actions.add_parser(
            "revert", help="take the last revision back; CONFIRM=STACK if rows would be lost"
        )
    )
    revert.add_argument("target", nargs="?", default="-1", help="a revision (default: -1)")
    revert.set_defaults(handler=call("pandom.host.migrate", "revert", "stack", "target"))

    _stack(
        actions.add_parser("show", help="revisions: [x] applied, [ ] pending, [!] other text")
    ).set_defaults(handler=call("pandom.host.migrate", "show", "stack"))


def _db(commands: Commands) -> None:
    db = commands.add_parser("db", help="restore: prepare, finish; retire old months")
    actions = db.add_subparsers(metavar="ACTION", required=True)
    for name, text in (
        ("prepare", "an empty database that pandom_user may restore a dump into"),
        ("finish", "close it again: privileges, new context key, new epoch, checks"),
    ):
        action = _stack(actions.add_parser(name, help=text))
        action.add_argument("name", metavar="DATABASE", help="its name in the server")
        action.set_defaults(handler=call("pandom.host.restore", name, "stack", "name"))

    _stack(
        actions.add_parser("retire", help="export and drop expired months of the trail")
    ).set_defaults(handler=call("pandom.host.retire", "run", "stack"))
