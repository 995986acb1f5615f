"""`pandom ci`: environments for one test run.

    pandom ci create --ttl 2h     an id, and what clients need, on stdout
    pandom ci list                what there is: age, time left, ports, size, who
    pandom ci keep ID --for 2h    let one live longer
    pandom ci env ID              what `create` printed, again
    pandom ci serve ID            hand out databases to tests, over HTTP
    pandom ci psql ID             psql, signed in as pandom_user
    pandom ci logs ID             what its containers said
    pandom ci destroy ID          remove one, and leave nothing
    pandom ci reap                remove those that nobody needs any more

`--stack ID` works with every other command, too.
"""

from __future__ import annotations

import argparse

from pandom.ci import EVERY_ROLE
from pandom.commands.handler import Commands, call
from pandom.host.formats import FORMATS
from pandom.runtime.numbers import number


def register(commands: Commands) -> None:
    """Add ``ci`` and its actions to the sub-commands of ``pandom``."""
    ci = commands.add_parser(
        "ci",
        help="an environment for one test run: create, list, keep, env, serve, psql, logs, "
        "destroy, reap",
        description="Environments for one test run: stacks of the ephemeral profile, each with a "
        "state of its own.",
    )
    actions = ci.add_subparsers(metavar="ACTION", required=True)

    create = actions.add_parser("create", help="make one; its id and settings on stdout")
    create.add_argument(
        "--ttl",
        default="2h",
        metavar="TIME",
        help="how long it lives, such as 30m, 2h or 1d (default: %(default)s)",
    )
    create.add_argument(
        "--owner",
        type=number,
        metavar="PID",
        help="a process that it lives for: it is removed when that is gone",
    )
    create.add_argument(
        "--set",
        action="append",
        default=[],
        dest="chosen",
        metavar="KEY=VALUE",
        help="a key of Pulumi.yaml, such as sampleData=true; may be repeated",
    )
    create.add_argument(
        "--cold", action="store_true", help="neither use nor prepare a cluster in the cache"
    )
    _format(create, hidden=(EVERY_ROLE,))
    create.set_defaults(
        handler=call("pandom.ci.create", "run", "ttl", "format", "owner", "chosen", "cold"),
        provides=True,
    )

    destroy = _one(actions, "destroy", "remove one, and leave nothing")
    destroy.set_defaults(handler=call("pandom.ci.end", "destroy", "id"))

    listed = actions.add_parser("list", help="what there is: age, time left, ports, size, who")
    listed.add_argument("--format", choices=("text", "json"), default="text")
    listed.set_defaults(handler=call("pandom.ci.look", "listed", "format"))

    keep = _one(actions, "keep", "let one live longer, whatever becomes of its process")
    keep.add_argument(
        "--for",
        required=True,
        dest="longer",
        metavar="TIME",
        help="from now on; one that would stay longer stays as long as before",
    )
    keep.set_defaults(handler=call("pandom.ci.end", "keep", "id", "longer"))

    env = _one(actions, "env", "its id and settings, as `create` printed them")
    env.add_argument("--role", help="another login than pandom_app")
    _format(env, hidden=(EVERY_ROLE,))
    env.set_defaults(handler=call("pandom.ci.look", "env", "id", "role", "format"))

    serve = _one(actions, "serve", "hand out databases and places in the bucket, over HTTP")
    serve.add_argument("--port", type=number, default=0, help="on 127.0.0.1 (default: a free one)")
    serve.add_argument(
        "--pool",
        type=number,
        default=8,
        help="databases that are kept ready (default: %(default)s)",
    )
    serve.add_argument("--owner", type=number, metavar="PID", help="a process that it works for")
    _format(serve)
    serve.set_defaults(
        handler=call("pandom.ci.serve", "run", "id", "port", "pool", "format", "owner")
    )

    psql = _one(actions, "psql", "psql, signed in as pandom_user")
    psql.add_argument("arguments", nargs=argparse.REMAINDER, help="psql's own, such as -c …")
    psql.set_defaults(handler=call("pandom.ci.look", "psql", "id", "arguments"))

    logs = _one(actions, "logs", "what its containers said")
    logs.add_argument("part", nargs="?", help="one of them, such as postgres (default: all)")
    logs.set_defaults(handler=call("pandom.ci.look", "logs", "id", "part"))

    reap = actions.add_parser(
        "reap", help="remove what is expired, or whose process is gone; `create` does so, too"
    )
    reap.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    reap.set_defaults(handler=call("pandom.ci.reap", "run", "dry_run"))


def _one(actions: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = actions.add_parser(name, help=text)
    command.add_argument("id", metavar="ID", help="as `create` printed it")
    return command


def _format(command: argparse.ArgumentParser, hidden: tuple[str, ...] = ()) -> None:
    command.add_argument(
        "--format",
        choices=(*FORMATS, *hidden),
        default="dotenv",
        metavar=f"{{{','.join(FORMATS)}}}",
        help="as of `pandom env`; default: %(default)s",
    )
