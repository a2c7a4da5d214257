"""What a command tells of the goals of a platform: those that are there, and those that the configuration names in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from convsync.cli.frame import Talk, ending, leave, put_json

if TYPE_CHECKING:
    from convsync.cli.asking import Asking
    from convsync.model import Finding


class Look(Protocol):
    """The goals of one destination, beside what the configuration says of them."""

    @property
    def lacking(self) -> Sequence[Any]: ...

    def rows(self) -> Iterator[dict[str, Any]]: ...

    def missing(self, lack: Any) -> dict[str, Any]: ...

    def finding(self, lack: Any) -> Finding: ...


L = TypeVar("L", bound=Look)


def tell(talk: Talk, asking: Asking, found: Sequence[L], listed: Callable[[L], Iterator[str]], json_: bool) -> None:
    """Print it, `listed` line by line, and end the command with its exit code."""
    for look in found:
        for lack in look.lacking:
            asking.add(look.finding(lack))
    ending(asking.exit_code)
    talk.tell(asking.findings)
    if json_:
        put_json({
            "goals": [row for look in found for row in look.rows()],
            "missing": [look.missing(lack) for look in found for lack in look.lacking],
            "findings": [one._asdict() for one in asking.findings],
            "exit_code": int(asking.exit_code),
        })  # fmt: skip
    else:
        for look in found:
            for line in listed(look):
                click.echo(line)
    leave(asking.exit_code)
