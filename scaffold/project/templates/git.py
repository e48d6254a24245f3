"""Fetch a state of a git repository: it asks nobody, and runs nothing of what it fetches.

What is fetched may be hostile. So git gets no hooks and no templates of ours, only the transports of the
address, and a secret in an address goes to it by a file.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from scaffold.core import git, process
from scaffold.core.events import Noted, emit
from scaffold.core.net import is_loopback
from scaffold.errors import ScaffoldError, ToolFailed, UsageError
from scaffold.project.templates import snapshot as snapshots

PATIENCE = 120.0  # seconds for one fetch
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,64}")
_REF = re.compile(r"[\w.@][\w./@+-]*")  # nothing that is an option, or a refspec
_URL = re.compile(r"(?:git\+)?((?:https?|ssh|git|file)://.+)|([\w.-]+@[\w.-]+:.+)")
_ASKING_NOBODY = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GCM_INTERACTIVE": "never",  # the credential manager that opens windows
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_ASKS = ("could not read Username", "could not read Password", "Authentication failed", "Permission denied (")
_NO_REF = ("remote ref", "invalid refspec", "unadvertised object")
_NOTHING = ("not found", "does not exist", "does not appear to be a git repository", "not a git repository")


@dataclass(frozen=True)
class Address:
    """Where a repository or a file is. `url` has no secret in it; `user_info` is what stood before the @."""

    url: str
    user_info: str = ""

    @property
    def path(self) -> str:
        """Where it is on its host."""
        return urlsplit(self.url).path if "://" in self.url else self.url.partition(":")[2]

    @classmethod
    def read(cls, text: str) -> Address | None:
        """The address that a text is, as git takes them; None when it is none.

        Raises `UsageError` for one that can be changed by anybody between, or read in two ways.
        """
        found = _URL.fullmatch(text)
        if not found:
            return None
        url = found[1] or found[2]
        if not url.isprintable() or " " in url:
            raise UsageError(f"{without_secret(url)!r} is no address of a repository")
        if found[2]:
            return cls(url)
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - raises for one that is none
        except ValueError as error:
            raise UsageError(f"{without_secret(url)!r} is no address of a repository") from error
        user_info, _, place = parts.netloc.rpartition("@")
        if parts.scheme in ("http", "git") and not is_loopback(parts.hostname):
            shown = parts._replace(netloc=place).geturl()
            raise UsageError(f"{shown} is in plain text, which anybody between can change", hint="use https")
        if parts.scheme == "ssh" and user_info:
            place, user_info = f"{user_info.partition(':')[0]}@{place}", ""
        return cls(parts._replace(netloc=place).geturl(), user_info)


def without_secret(text: str) -> str:
    """What may be shown of a text that was meant as an address."""
    return re.sub(r"//[^/]*@", "//", text)[:200]


def fetch(address: Address, ref: str | None, folder: Path) -> str:
    """Put the state `ref` of a repository into `folder`, which is made; returns the commit.

    `ref` is a branch, a tag or a commit; None: the default branch. `folder` gets the files alone.
    Raises `UsageError` when there is no such repository or state, or a password is asked for;
    `ToolFailed` when git fails otherwise; `MachineError` when there is no git.
    """
    git.program()  # said before anything else
    if ref is not None and not _REF.fullmatch(ref):
        raise UsageError(f"{ref!r} names no branch, tag or commit")
    made = _git(folder.parent, "init", "-q", "--template=", str(folder))
    if made.code:  # the user's settings are broken, say
        raise _failed(address, ref, made.stderr)
    said = _fetch(address, folder, [ref or "HEAD"], "--depth=1")
    wanted = "FETCH_HEAD"
    if said and ref and _ABBREVIATED.fullmatch(ref):  # servers give whole ids at most, and not all do
        said = _fetch(address, folder, ["+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"])
        wanted = ref
    if said:
        raise _failed(address, ref, said)
    found = _git(folder, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    commit = found.stdout.strip()
    if not COMMIT.fullmatch(commit):
        raise _unknown(address, ref)
    _check_size(folder, commit)
    made = _git(folder, "checkout", "-q", "--detach", commit, env=git.ALONE)
    if made.code:
        raise _failed(address, ref, made.stderr)
    shutil.rmtree(folder / ".git")
    return commit


def _fetch(address: Address, folder: Path, refs: Sequence[str], *options: str) -> str:
    """Fetch these; what git said when it failed, or nothing."""
    settings = folder / ".git" / "scaffold"
    settings.touch(mode=0o600)
    settings.write_text(_credentials(address, settings))
    argv = ["-c", f"include.path={settings}", "fetch", "-q", "--no-tags", "--no-recurse-submodules", *options]
    ran = _git(folder, *argv, "--", address.url, *refs, env=_transport(address))
    if not ran.code:
        return ""
    said = ran.stderr.strip() or f"git ended with exit code {ran.code}"
    return said.replace(f"{address.user_info}@", "") if address.user_info else said


def _credentials(address: Address, beside: Path) -> str:
    """Git's settings for the user, and the password, that stood in an address."""
    if not address.user_info:
        return ""
    parts = urlsplit(address.url)
    user, has_password, _ = address.user_info.partition(":")
    if not has_password:
        return f"[credential]\n\tusername = {_quoted(unquote(user))}\n"
    store = beside.with_name("scaffold-credentials")
    store.touch(mode=0o600)
    store.write_text(f"{parts.scheme}://{address.user_info}@{parts.netloc}\n")
    # an empty one first: the user's own would be told the password otherwise
    return f"[credential]\n\thelper =\n\thelper = {_quoted(f'store --file={_word(store)}')}\n"


def _word(path: Path) -> str:
    """A path as a word of the line that git gives a shell."""
    return shlex.quote(str(path))


def _quoted(value: str) -> str:
    """A value as git's settings have it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _transport(address: Address) -> dict[str, str]:
    """What keeps git to the address's own transport, and from asking."""
    scheme = "ssh" if "://" not in address.url else urlsplit(address.url).scheme
    secure = ("https", "ssh")  # for one of which the other may stand in the user's settings
    env = {"GIT_ALLOW_PROTOCOL": ":".join(secure if scheme in secure else (scheme,))}
    if "ssh" in env["GIT_ALLOW_PROTOCOL"]:
        command = os.environ.get("GIT_SSH_COMMAND") or _git(None, "config", "core.sshCommand").stdout.strip()
        env["GIT_SSH_COMMAND"] = f"{command or 'ssh'} -o BatchMode=yes -o ConnectTimeout=20"
    return env


def _git(folder: Path | None, *words: str, env: Mapping[str, str] | None = None) -> process.Completed:
    return git.run(*words, cwd=folder, env=_ASKING_NOBODY | dict(env or {}), timeout=PATIENCE, guarded=True)


def _check_size(folder: Path, commit: str) -> None:
    """Before anything is written: a few objects of git's can stand for any number of files."""
    argv = ["ls-tree", "-r", "-l", "-z", commit]
    limit = snapshots.Limit()
    with git.spawn(*argv, cwd=folder, env=_ASKING_NOBODY, stdout=process.PIPE) as child:
        assert child.stdout  # noqa: S101 - for the type checker
        rest = b""
        while block := child.stdout.read(65536):
            *lines, rest = (rest + block).split(b"\0")
            for line in lines:
                size = line.partition(b"\t")[0].split()[-1]
                limit.take(int(size) if size.isdigit() else 0)


def _failed(address: Address, ref: str | None, said: str) -> ScaffoldError:
    """What went wrong, as git said it."""
    if any(words in said for words in _ASKS):
        return UsageError(
            f"{address.url} asks for a password or a key, and nobody is asked for one here",
            hint="is the address right? if so, let git know it first: a credential helper, a key in an agent",
        )
    if any(words in said for words in _NO_REF):
        return _unknown(address, ref)
    if any(words in said for words in _NOTHING):
        return UsageError(f"there is no git repository at {address.url}")
    for line in said.splitlines():
        emit(Noted(line))
    return ToolFailed(f"git cannot fetch {address.url}")


def _unknown(address: Address, ref: str | None) -> UsageError:
    state = f"branch, tag or commit `{ref}`" if ref else "commit"
    return UsageError(f"there is no {state} in {address.url}")
