"""What all commands share: their place in the help, the options of every one of them, and how failures are told."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from convsync.errors import ConvsyncError, Exit

if TYPE_CHECKING:
    from convsync.config import Config
    from convsync.model import Finding

LEVELS = {"error": "red", "warning": "yellow", "info": "cyan", "ok": "green"}
FOR_A_PERSON = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Refusals of the system that no later run overcomes by itself."""
CODE = "convsync.exit_code"
"""Where in `ctx.meta` `ending` notes the exit code."""


@dataclass
class Talk:
    """How this invocation talks: results on stdout, everything else on stderr."""

    config_path: Path | None = None
    verbose: bool = False
    quiet: bool = False

    def config(self) -> Config:
        from convsync.config import load

        return load(self.config_path, need_credentials=False)

    def say(self, text: str) -> None:
        """Talk that nobody needs to keep."""
        if not self.quiet:
            click.echo(text, err=True)

    def tell(self, findings: Sequence[Finding]) -> None:
        """Findings, one a line; notes only for those who did not ask for quiet."""
        for finding in findings:
            if finding.level == "info" and self.quiet:
                continue
            click.echo(f"{label(finding.level)} {told(finding)}", err=True)


def label(level: str) -> str:
    return click.style(f"{'note' if level == 'info' else level}:", fg=LEVELS.get(level), bold=level == "error")


def mark(level: str) -> str:
    """The level as the first column of a list."""
    word = "note" if level == "info" else level
    return click.style(word.ljust(8), fg=LEVELS.get(level), bold=level == "error")


def told(finding: Finding) -> str:
    """A finding as one line."""
    named = not finding.where or finding.message.startswith(finding.where)
    return ("" if named else f"{finding.where}: ") + sentences(finding.message, finding.advice)


def sentences(message: str, advice: str) -> str:
    """A message and its advice as two sentences, whoever wrote them."""
    if advice and message and message[-1] not in ".!?:…":
        message += "."
    return f"{message} {advice}".strip()


def put_json(value: Any) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def put_line(value: Mapping[str, Any]) -> None:
    """One object as one line on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))


def ending(code: int) -> None:
    """Note how the command ends before it prints: neither a reader who leaves nor a full disk changes that."""
    click.get_current_context().meta[CODE] = int(code)


def leave(code: int) -> NoReturn:
    """End the command with this exit code."""
    raise click.exceptions.Exit(int(code))


def _note(name: str) -> Any:
    """Options of every command may stand before its name or behind it; where they are given, they hold."""

    def take(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        talk = ctx.find_object(Talk)
        if talk is not None and value:
            setattr(talk, name, value)

    return take


def _common(**more: Any) -> list[click.Parameter]:
    return [
        click.Option(
            ["--config"], type=click.Path(dir_okay=False, path_type=Path), metavar="PATH",
            help="The configuration; else CONVSYNC_CONFIG, else ./convsync.toml.",
            **(more and more | {"callback": _note("config_path")}),
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, help="Say more: each page and request; the traceback of a bug.",
            **(more and more | {"callback": _note("verbose")}),
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, help="Say only what needs a person: no progress, no summary of a run.",
            **(more and more | {"callback": _note("quiet")}),
        ),
    ]  # fmt: skip


COMMON = _common()


class Command(click.Command):
    """A command that takes the options of the group behind its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        taken = {name for one in self.params for name in one.opts}
        self.params += [one for one in _common(hidden=True, expose_value=False) if not taken.intersection(one.opts)]


class Group(click.Group):
    command_class = Command


class Commands(Group):
    """The group of all commands, listed by what they are for."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[click.Command]] = {}, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        for members in sections.values():
            for command in members:
                self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, members in self.sections.items():
            with formatter.section(title):
                rows = [(str(one.name), one.get_short_help_str(80)) for one in members]
                formatter.write_dl(rows, col_max=12)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run, and turn whatever happens into lines for a person and an exit code for cron."""
        given = list(sys.argv[1:] if args is None else args)
        code = self._run(given, prog_name or "convsync")
        sys.exit(_flushed(code))

    def _run(self, args: list[str], prog_name: str) -> int:
        wants_json = "--json" in args
        _be_able_to_speak()
        meta: dict[str, Any] = {}
        verbose = False
        try:
            with self.make_context(prog_name, list(args)) as ctx:
                meta = ctx.meta
                self.invoke(ctx)
            return Exit.OK
        except click.exceptions.Exit as asked:
            return asked.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return Exit.USAGE
        except click.ClickException as error:
            return failed(*_of_click(error), Exit.USAGE, wants_json)
        except ConvsyncError as error:
            return failed(error.message, error.advice, error.exit_code, wants_json)
        except (KeyboardInterrupt, click.Abort, EOFError):
            return failed("interrupted.", "", Exit.INTERRUPTED, wants_json)
        except BrokenPipeError:
            _close_stdout()
            return int(meta.get(CODE, Exit.OK))
        except Exception as error:  # noqa: BLE001 - the outermost line: nobody is left to hand it to
            if isinstance(error, OSError) and CODE in meta:
                return _lost(error, meta[CODE])
            verbose = "-v" in args or "--verbose" in args
            return _unexpected(error, verbose, wants_json)


def failed(message: str, advice: str, code: Exit, wants_json: bool) -> int:
    """Tell a failure: lines on stderr, with --json also an object on stdout."""
    for line in message.splitlines():
        click.echo(f"{label('error')} {line}", err=True)
    if advice:
        click.echo(f"{click.style('advice:', fg='cyan')} {advice}", err=True)
    if wants_json:
        try:
            put_json({"error": message, "advice": advice, "exit_code": int(code)})
            sys.stdout.flush()
        except OSError:  # nobody reads, or there is no room: it was told on stderr
            _close_stdout()
    return int(code)


def _of_click(error: click.ClickException) -> tuple[str, str]:
    message = error.format_message()
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    return message, f"`{path} --help` shows what can be said." if path else ""


def _unexpected(error: Exception, verbose: bool, wants_json: bool) -> int:
    import sqlite3

    if isinstance(error, sqlite3.Error):
        advice = (
            "Nothing that was recorded is lost. See that the disk has room and is sound; then `convsync ledger verify`."
        )
        return failed(f"SQLite reports: {error}.", advice, Exit.UNFINISHED, wants_json)
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        code = Exit.USAGE if error.errno in FOR_A_PERSON else Exit.UNFINISHED
        advice = "Check the path, its rights and the room on its disk."
        return failed(f"{name}{error.strerror}.", advice, code, wants_json)
    if verbose:
        import traceback

        traceback.print_exception(error)
    advice = "Nothing that was recorded is lost. Please report it with what -v prints, which may hold data of yours: look first."
    return failed(f"this is a bug in convsync ({type(error).__name__}).", advice, Exit.UNFINISHED, wants_json)


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
    except OSError as error:
        return _lost(error, code)
    return code


def _lost(error: OSError, code: int) -> int:
    """The work was done, but what was printed has no room: a code that says so, unless there is a worse one to tell."""
    _close_stdout()
    advice = "What was done is done and recorded; only what was printed is lost."
    return failed(f"stdout: {error.strerror}.", advice, Exit(code or Exit.UNFINISHED), wants_json=False)


def _close_stdout() -> None:
    """Nobody reads any more: what is left in the buffer must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _be_able_to_speak() -> None:
    """A terminal that cannot show a letter gets its number, not a traceback; a stream that was closed swallows all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open for as long as the process
            setattr(sys, name, stream)
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
