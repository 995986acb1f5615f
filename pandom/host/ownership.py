"""Whose stack it is that Docker has: nobody's work is touched because it has our name.

Containers, volumes and networks carry the identity of the state that made them. What
another state made (another user, another state home, one that was lost or renamed) is
named, and left alone until `pandom adopt` takes it over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from pandom import identity, paths
from pandom.errors import UserMistake
from pandom.host.engine import Engine, Marked
from pandom.host.stack import Stack, configured_protection


def foreign(stack: Stack, found: Iterable[Marked]) -> list[Marked]:
    """What another state made.

    Earlier releases wrote no identity: where there is a state, that is taken for its own.
    """
    mine = identity.find(stack.name)
    return [
        one
        for one in found
        if (not mine or not mine.includes(one.identity) if one.identity else not stack.exists())
    ]


def refuse_foreign(stack: Stack, engine: Engine, removing: bool = False) -> None:
    """Raise UserMistake, before anything is touched, unless what Docker has is this state's.

    What belongs to this user, but to a state that is gone, may be removed by ``removing``.
    """
    if stack.exists() and (former := identity.former_name(stack.name)):
        raise UserMistake(identity.renamed(stack.name, former))
    found = engine.marked()
    others = foreign(stack, found)
    if others:
        raise UserMistake(_belongs_to_others(stack, others))
    if found and not stack.exists() and not removing:
        raise UserMistake(_lost(stack, found))


def protected(stack: Stack, found: Iterable[Marked]) -> bool:
    """Whether its data needs CONFIRM to be removed, as far as can be told without a state.

    Containers are made again when protection changes, volumes never. Without a state
    only a stack that is made for one run may go unasked.
    """
    marked = list(found)
    newest = [one for one in marked if one.kind == "container" and one.protected] or marked
    if any(one.protected == "true" for one in newest) or configured_protection(stack):
        return True
    return not stack.exists() and bool(marked) and not stack.short_lived


def confirm(stack: Stack, what: str, command: str) -> None:
    """Raise UserMistake unless CONFIRM names the stack. ``what`` says what would happen."""
    if os.environ.get("CONFIRM") != stack.name:
        raise UserMistake(
            f"{what} Nothing was touched.\nNext, if you mean it: CONFIRM={stack.name} {command}"
        )


def _count(found: Iterable[Marked]) -> str:
    kinds = [one.kind for one in found]
    return ", ".join(
        f"{kinds.count(kind)} {kind}{'s' if kinds.count(kind) != 1 else ''}"
        for kind in dict.fromkeys(kinds)
    )


def _belongs_to_others(stack: Stack, others: list[Marked]) -> str:
    owners = sorted({one.owner for one in others if one.identity})
    unknown = [] if owners else ["an earlier release of pandom-stack, with another state"]
    lines = "\n".join(f"  {owner}" for owner in (*owners, *unknown))
    return (
        f"Stack {stack.name} in this Docker engine is not of this state: {_count(others)}\n"
        f"belong to\n{lines}\n"
        f"This state is in {paths.state_home()}. Nothing was touched.\n"
        "Next: work on it as its owner, with the owner's XDG_STATE_HOME; or take another name\n"
        "(--stack); or take it over, with its data and new passwords:\n"
        f"  CONFIRM={stack.name} .venv/bin/pandom adopt --stack {stack.name}\n"
        "or, if nobody needs it any more, remove it by Docker's labels:\n"
        f"  CONFIRM={stack.name} .venv/bin/pandom down --without-state --stack {stack.name}"
    )


def _lost(stack: Stack, found: list[Marked]) -> str:
    return (
        f"The state of stack {stack.name} is gone, and with it every password;\n"
        f"{_count(found)} of it are there. Nothing was touched.\n"
        f"Next: put {paths.states()}\nback from your backup; or make a new state around the data:\n"
        f"  CONFIRM={stack.name} .venv/bin/pandom adopt --stack {stack.name}\n"
        f"or remove everything: .venv/bin/pandom down --stack {stack.name}"
    )
