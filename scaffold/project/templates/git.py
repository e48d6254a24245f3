"""Fetch a state of a git repository without asking the user anything, and without running its content.

The repository may be hostile. So git gets no hooks and no templates, only the transport of the address, and
a secret in an address reaches git in a file.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from scaffold.core import bounded_program, git, process
from scaffold.core.bounded_program import Exceeded, Limits
from scaffold.core.events import Noted, emit
from scaffold.core.host_names import is_loopback
from scaffold.core.text import quoted, without_secret
from scaffold.errors import MachineError, ProjectError, ScaffoldError, ToolFailed, UsageError
from scaffold.project.templates import snapshot

FETCH_SECONDS = 120.0  # seconds for one fetch
DOWNLOAD_LIMIT = 2 * snapshot.SIZE_LIMIT  # bytes of what one fetch may leave on the disk
MEMORY_LIMIT = 1_000_000_000  # bytes, of git and its helpers
LONGEST_NAME = 100_000  # bytes of a path
# what a repository's own attributes change at a checkout: an encoding makes a file four times as large
_AS_IT_IS = "* !working-tree-encoding !ident !text !eol !filter\n"
_MESSAGE = 2**16  # bytes of git's messages that are kept
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,64}")
_REF = re.compile(r"[\w.@][\w./@+-]*")  # nothing that is an option, or a refspec
_URL = re.compile(r"(?:git\+)?((?:https?|ssh|git|file)://.+)|([\w.-]+@[\w.-]+:.+)")
_NO_PROMPTS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GCM_INTERACTIVE": "never",  # the credential manager that opens windows
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_NEEDS_PASSWORD = (
    "could not read Username",
    "could not read Password",
    "Authentication failed",
    "Permission denied (",
)
_SUBMODULE = b"160000 "  # the mode of a commit of another repository
_NO_REF = ("remote ref", "invalid refspec", "unadvertised object")
_NOTHING = ("not found", "does not exist", "does not appear to be a git repository", "not a git repository")


class NoTemplate(UsageError):
    """There is nothing where a template should be."""


@dataclass(frozen=True)
class Address:
    """Where a repository or a file is. `url` contains no secret; `user_info` is the part before the @."""

    url: str
    user_info: str = ""

    @property
    def path(self) -> str:
        """The path on its host."""
        return urlsplit(self.url).path if "://" in self.url else self.url.partition(":")[2]

    @classmethod
    def read(cls, text: str) -> Address | None:
        """The address in a text, in one of git's forms; None if it isn't one.

        Raises `UsageError` for plain text over a network, and for what can be read in two ways.
        """
        match = _URL.fullmatch(text)
        if not match:
            return None
        url = match[1] or match[2]
        if not url.isprintable() or " " in url:
            raise UsageError(f"{without_secret(url)} isn't a valid address of a repository")
        if match[2]:
            return cls(url)
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - raises for an invalid port
        except ValueError as error:
            raise UsageError(f"{without_secret(url)} isn't a valid address of a repository") from error
        user_info, _, place = parts.netloc.rpartition("@")
        if parts.scheme in ("http", "git") and not is_loopback(parts.hostname):
            public = parts._replace(netloc=place).geturl()
            raise UsageError(f"{public} is plain text, which anybody on the way can change", hint="use https")
        if parts.scheme == "ssh" and user_info:
            place, user_info = f"{user_info.partition(':')[0]}@{place}", ""
        return cls(parts._replace(netloc=place).geturl(), user_info)


def fetch(address: Address, ref: str | None, folder: Path, directory: str = "") -> str:
    """Put the files of a repository's state `ref` into a new `folder`; returns the commit.

    `ref` is a branch, a tag or a commit; None is the default branch. The template is in its `directory`.
    Raises `UsageError` when there is no such repository or state, or it needs a password; `ToolFailed` when
    git fails otherwise; `MachineError` when there is no git; `ProjectError` for a template with a submodule,
    which is another repository: nobody has trusted that.
    """
    git.program()  # the first error that a user without git should see
    if ref is not None and not _REF.fullmatch(ref):
        raise UsageError(f"{quoted(ref)} isn't a branch, a tag or a commit")
    ran = _git(folder.parent, "init", "-q", "--template=", str(folder))
    if ran.code:  # for example, the user's settings are broken
        raise _failed(address, ref, ran.stderr, folder)
    failure = _fetch(address, folder, [ref or "HEAD"], "--depth=1")
    wanted = "FETCH_HEAD"
    if failure and ref and _ABBREVIATED.fullmatch(ref):  # no server looks up a short id
        every = ["+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"]
        hint = "write the commit in full: for an abbreviated one, all of the history is fetched"
        failure = _fetch(address, folder, every, hint=hint)
        wanted = ref
    if failure:
        raise _failed(address, ref, failure, folder)
    ran = _git(folder, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    commit = ran.stdout.strip()
    if not COMMIT.fullmatch(commit):
        raise _unknown(address, ref)
    _check_content(folder, commit, address, directory)
    (folder / ".git/info").mkdir(exist_ok=True)
    (folder / ".git/info/attributes").write_text(_AS_IT_IS)
    ran = _git(folder, "checkout", "-q", "--detach", commit, env=git.NO_SETTINGS)
    if ran.code:
        raise _failed(address, ref, ran.stderr, folder)
    shutil.rmtree(folder / ".git")
    return commit


def _fetch(
    address: Address, folder: Path, refs: Sequence[str], *options: str, hint: str | None = None
) -> str:
    """Fetch some refs; returns git's message if that fails, otherwise "".

    `hint` is that of the error when too much arrives.
    """
    settings = folder / ".git" / "scaffold"
    settings.touch(mode=0o600)
    settings.write_text(_credentials(address, settings))
    # unpackLimit: keep what arrives as it is, so that its size is seen
    argv = ["-c", f"include.path={settings}", "-c", "fetch.unpackLimit=1", "fetch", "-q", "--no-tags"]
    argv += ["--no-recurse-submodules", *options]
    env = _NO_PROMPTS | _transport(address)
    with git.spawn(*argv, "--", address.url, *refs, cwd=folder, env=env, stderr=process.PIPE) as child:
        message = _watched(child, folder, address, hint)
    if not child.returncode:
        return ""
    message = message or f"git ended with exit code {child.returncode}"
    return message.replace(f"{address.user_info}@", "") if address.user_info else message


def _watched(child: process.Child, folder: Path, address: Address, hint: str | None) -> str:
    """Wait for git's end; returns the last of its messages.

    Raises `ProjectError` when it has fetched more than a template may contain, `MachineError` when it takes
    too long.
    """
    message = b""
    limits = Limits(DOWNLOAD_LIMIT, MEMORY_LIMIT, FETCH_SECONDS)
    try:
        for block in bounded_program.output(child, child.stderr, folder, limits):
            message = (message + block)[-_MESSAGE:]
    except Exceeded as error:
        if error.limit == "seconds":
            raise MachineError(f"{address.url} didn't arrive within {FETCH_SECONDS:g} s") from error
        raise ProjectError(f"the repository at {address.url} is too large: {error}", hint=hint) from error
    return message.decode(errors="replace").strip()


def _credentials(address: Address, beside: Path) -> str:
    """Git's settings for the user and the password of an address."""
    if not address.user_info:
        return ""
    parts = urlsplit(address.url)
    user, has_password, _ = address.user_info.partition(":")
    if not has_password:
        return f"[credential]\n\tusername = {_quoted(unquote(user))}\n"
    store = beside.with_name("scaffold-credentials")
    store.touch(mode=0o600)
    store.write_text(f"{parts.scheme}://{address.user_info}@{parts.netloc}\n")
    # an empty one first: otherwise git would pass the password to the user's own helper
    return f"[credential]\n\thelper =\n\thelper = {_quoted(f'store --file={_word(store)}')}\n"


def _word(path: Path) -> str:
    """A path, quoted for the shell that git uses."""
    return shlex.quote(str(path))


def _quoted(value: str) -> str:
    """A value, quoted as in git's settings."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _transport(address: Address) -> dict[str, str]:
    """The environment that restricts git to the address's transport, and keeps ssh from asking."""
    scheme = "ssh" if "://" not in address.url else urlsplit(address.url).scheme
    secure = ("https", "ssh")  # the user's settings may replace one by the other
    env = {"GIT_ALLOW_PROTOCOL": ":".join(secure if scheme in secure else (scheme,))}
    if "ssh" in env["GIT_ALLOW_PROTOCOL"]:
        command = os.environ.get("GIT_SSH_COMMAND") or _git(None, "config", "core.sshCommand").stdout.strip()
        env["GIT_SSH_COMMAND"] = f"{command or 'ssh'} -o BatchMode=yes -o ConnectTimeout=20"
    return env


def _git(folder: Path | None, *words: str, env: Mapping[str, str] | None = None) -> process.Completed:
    return git.run(*words, cwd=folder, env=_NO_PROMPTS | dict(env or {}), timeout=FETCH_SECONDS, guarded=True)


def _check_content(folder: Path, commit: str, address: Address, directory: str) -> None:
    """Limit what a checkout writes: a few of git's objects can stand for any number of files.

    Raises `ProjectError`, also for a submodule in the template's `directory`, whose files wouldn't be there.
    """
    argv = ["ls-tree", "-r", "-t", "-l", "-z", commit]  # -t: folders count, as they may all be empty
    limit = snapshot.Limit()
    with git.spawn(*argv, cwd=folder, env=_NO_PROMPTS, stdout=process.PIPE) as child:
        assert child.stdout  # noqa: S101 - for the type checker
        rest = b""
        while block := child.stdout.read(65536):
            *lines, rest = (rest + block).split(b"\0")
            for line in lines:
                about, _, path = line.partition(b"\t")
                size = about.split()[-1]
                if about.startswith(_SUBMODULE):
                    _check_submodule(os.fsdecode(path), address, directory)
                limit.take(int(size) if size.isdigit() else 0)
            if len(rest) > LONGEST_NAME:
                raise ProjectError("the template contains a path that is longer than any system takes")


def _check_submodule(path: str, address: Address, directory: str) -> None:
    """Raise `ProjectError` for a submodule in the template's folder."""
    if PurePosixPath(path).is_relative_to(PurePosixPath(directory)):
        name = path if path.isprintable() else quoted(path)
        clone = f"`git clone --recurse-submodules {shlex.quote(address.url)} mine`"
        raise ProjectError(
            f"the template at {address.url} has the submodule {name}, whose files aren't fetched",
            hint=f"{clone}, and pass --template ./mine",
        )


def _failed(address: Address, ref: str | None, message: str, folder: Path) -> ScaffoldError:
    """The error for git's message; raises the `OSError` of a full disk."""
    git.check_disk(message, folder)
    if any(words in message for words in _NEEDS_PASSWORD):
        return UsageError(
            f"{address.url} asks for a password or a key, which scaffold never asks you for",
            hint="check the address; if it is right, set up a credential helper, or a key in an agent",
        )
    if any(words in message for words in _NO_REF):
        return _unknown(address, ref)
    if any(words in message for words in _NOTHING):
        return NoTemplate(f"there is no git repository at {address.url}")
    emit(Noted("\n".join(["git says:", *message.splitlines()])))
    return ToolFailed(f"git cannot fetch {address.url}", hint=f"`{_look(address)}` asks for the same place")


def _unknown(address: Address, ref: str | None) -> UsageError:
    state = f"branch, tag or commit `{ref}`" if ref else "commit"
    return UsageError(f"there is no {state} in {address.url}", hint=f"`{_look(address)}` lists what there is")


def _look(address: Address) -> str:
    return f"git ls-remote {shlex.quote(address.url)}"
