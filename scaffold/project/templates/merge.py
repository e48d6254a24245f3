"""Merge changes into a project in git, without touching its repository until the result is ready.

Nothing is written to the user's repository, neither objects nor the index: git works in a repository of our
own, which borrows the user's objects. The user's settings and hooks don't affect that repository; they do
apply when a file of the project is read or written (ends of lines, filters).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, git, process
from scaffold.core.versions import Version
from scaffold.errors import MachineError, ToolFailed, UsageError

LINK = "120000"  # git's mode of a symbolic link
_OLDEST = Version((2, 38))  # the first whose `merge-tree` merges like `merge`
_SHOWN = 5  # names in a message
# always the same, so that git shows the same commits beside a conflict
_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "scaffold"), ("EMAIL", "scaffold"), ("DATE", "2000-01-01T00:00:00Z"))
}


@dataclass(frozen=True)
class Entry:
    """An entry of a tree: git's mode and the object's name."""

    mode: str
    name: str


@dataclass(frozen=True)
class Change:
    """A path, relative to the project, and its entries before and after; None is no entry."""

    path: str
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True)
class Merge:
    """The merged tree, the paths with conflicts, and git's messages about them."""

    tree: str
    conflicts: tuple[str, ...]
    messages: tuple[str, ...]


class Worktree:
    """The project in `root`, a folder of a git repository that has commits.

    `prefix` is the folder's path in the repository, empty or with a `/` at its end. `env` are variables for
    git, such as those that say where its folder is.
    Raises `UsageError` when it isn't such a folder, `MachineError` when git is missing or too old.
    """

    def __init__(self, root: Path, env: Mapping[str, str] = {}) -> None:
        self.root = self._top = root.resolve()
        self._env = dict(env)
        _check_version()
        commit = f"`cd {shlex.quote(str(self.root))} && git init && git add -A && git commit -m 'as it was'`"
        ran = self._run("rev-parse", "--show-toplevel", "--show-prefix", "--git-path", "objects")
        if ran.code != 0:
            if "not a git repository" not in ran.stderr:
                raise ToolFailed(f"git can't read {self.root}: {ran.stderr.strip()}")
            raise UsageError(f"{self.root} isn't in a git repository", hint=f"{commit} makes a repository")
        top, self.prefix, objects = ran.stdout.splitlines()
        self._top, self.objects = Path(top), (self.root / objects).resolve()
        ran = self._run("rev-parse", "--verify", "--quiet", f"HEAD:{self.prefix}")
        if ran.code != 0:
            raise UsageError(f"nothing in {self.root} is committed", hint="`git add -A && git commit`")
        self.tree = ran.stdout.strip()
        self.hash = self._run("rev-parse", "--show-object-format").stdout.strip()
        self._modes = self._run("config", "--type=bool", "core.fileMode").stdout.strip() != "false"

    def whole(self) -> Worktree:
        """The repository that the project is in."""
        return self if not self.prefix else Worktree(self._top, self._env)

    def check_untouched(self, changes: Sequence[Change]) -> None:
        """Raise `UsageError` unless each path is as committed, or already as it will become."""
        removed = {change.path for change in changes if change.after is None}
        touched = [change.path for change in changes if not self._is_untouched(change, removed)]
        if touched:
            more = f" and {len(touched) - _SHOWN} more" if len(touched) > _SHOWN else ""
            raise UsageError(
                f"uncommitted changes in {', '.join(touched[:_SHOWN])}{more} would be lost",
                hint=f"`git -C {shlex.quote(str(self.root))} add -A && git commit`, or `git stash -u`; "
                "move away what git ignores; then try again",
            )

    def apply(self, changes: Sequence[Change], scratch: Scratch, *, last: str) -> None:
        """Apply the changes to the project's files, the one to the path `last` at the end.

        All files are prepared elsewhere, and then renamed into place. After a kill in between, some files
        are new, and another call does the rest. Raises `UsageError`, and changes nothing, when uncommitted
        work would be lost.
        """
        # removals first: a file may make room for a folder with its name
        ordered = sorted(changes, key=lambda change: (change.path == last, change.after is not None))
        with files.staging(self.root) as aside:
            for number, change in enumerate(ordered):
                if change.after:
                    self._make(aside / str(number), change.path, change.after, scratch)
            self.check_untouched(changes)  # only now: the preparation may have taken a while
            with process.uninterrupted():
                for number, change in enumerate(ordered):
                    target = self.root / change.path
                    if change.after is None:
                        _remove(target, self.root)
                    else:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        files.move(aside / str(number), target)

    def _is_untouched(self, change: Change, removed: Collection[str]) -> bool:
        path = self.root / change.path
        for parent in Path(change.path).parents[:-1]:
            folder = self.root / parent
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                gone = change.after is None and not folder.is_symlink()
                return gone or (change.before is None and parent.as_posix() in removed)
        if path.is_dir() and not path.is_symlink():
            return change.after is None or (change.before is None and self._is_emptied(path, removed))
        if not path.exists() and not path.is_symlink():
            return change.before is None or change.after is None
        entry = self._entry(change.path)
        return any(entry and side and self._is(entry, side) for side in (change.before, change.after))

    def _is_emptied(self, folder: Path, removed: Collection[str]) -> bool:
        """Whether nothing is left in a folder when these files are removed."""
        below = list(folder.rglob("*"))
        leaves = [each for each in below if each.is_symlink() or not each.is_dir() or not any(each.iterdir())]
        return bool(leaves) and all(each.relative_to(self.root).as_posix() in removed for each in leaves)

    def _is(self, entry: Entry, side: Entry) -> bool:
        return entry.name == side.name and (entry.mode == side.mode or not self._modes)

    def _entry(self, path: str) -> Entry | None:
        """The entry for a file of the project; None for what git can't store."""
        whole = self.root / path
        if whole.is_symlink():
            ran = self._run("hash-object", "--stdin", text=str(whole.readlink()))
            return Entry(LINK, ran.stdout.strip())
        if not whole.is_file():
            return None
        ran = self._run("hash-object", "--", self.prefix + path)
        return Entry("100755" if whole.stat().st_mode & 0o100 else "100644", ran.stdout.strip())

    def _make(self, made: Path, path: str, entry: Entry, scratch: Scratch) -> None:
        """Write an object to the file `made`, as git checks it out at `path`."""
        if entry.mode == LINK:
            made.symlink_to(scratch.text(entry.name))
            return
        env = self._env | {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(scratch.objects)}
        argv = ["cat-file", "--filters", f"--path={self.prefix}{path}", entry.name]
        with made.open("wb") as file:
            with git.spawn(*argv, cwd=self._top, env=env, stdout=file, stderr=process.PIPE) as child:
                message = child.communicate()[1].decode(errors="replace").strip()
            if child.returncode:
                git.check_disk(message, self.root / path)
                raise ToolFailed(f"git can't write {path}: {message or '`git cat-file --filters` failed'}")
            with files.naming(self.root / path):
                files.sync(file)
        if entry.mode == "100755":
            mode = made.stat().st_mode
            made.chmod(mode | (mode & 0o444) >> 2)  # for everybody who may read it

    def _run(self, *words: str, text: str | None = None) -> process.Completed:
        """Run git at the top of the repository; until that is known, in the project."""
        return git.run(*words, cwd=self._top, text=text, env=self._env)


class Scratch:
    """A repository of our own in `folder`, which borrows the objects of a project's."""

    def __init__(self, folder: Path, work: Worktree) -> None:
        self._folder = folder
        self.objects = folder / "objects"
        self._run("init", "--quiet", "--bare", "--template=", f"--object-format={work.hash}", str(folder))
        (self.objects / "info").mkdir(exist_ok=True)
        (self.objects / "info" / "alternates").write_text(f"{work.objects}\n")

    def tree(self, folder: Path) -> str:
        """The tree of a folder's files."""
        self._run("read-tree", "--empty")
        self._run(
            f"--work-tree={folder}", "-c", "core.bare=false", "add", "--all", "--force", ".", cwd=folder
        )
        return self._run("write-tree").strip()

    def amended(self, tree: str, contents: Mapping[str, str]) -> str:
        """A tree with new contents at some paths; an existing file keeps its mode."""
        entries = self.entries(tree)
        self._run("read-tree", tree)
        for path, content in contents.items():
            name = self._run("hash-object", "-w", "--stdin", text=content).strip()
            mode = entries[path].mode if path in entries else "100644"
            self._run("update-index", "--add", "--cacheinfo", f"{mode},{name},{path}")
        return self._run("write-tree").strip()

    def entries(self, tree: str) -> dict[str, Entry]:
        """The entries of a tree: path -> entry."""
        entries = {}
        for line in self._run("ls-tree", "-r", "-z", tree).split("\0")[:-1]:
            details, _, path = line.partition("\t")
            mode, _, name = details.split()
            entries[path] = Entry(mode, name)
        return entries

    def mentioning(self, tree: str, pattern: str) -> dict[str, str]:
        """The text files in a tree that match an extended regular expression: path -> content."""
        listed = self._run("grep", "-I", "-l", "-z", "-E", "-e", pattern, tree, accepted=(0, 1))
        paths = [path.removeprefix(f"{tree}:") for path in listed.split("\0")[:-1]]
        texts = {
            path: self._run("cat-file", "blob", f"{tree}:{path}") for path in paths if "\ufffd" not in path
        }
        return {path: text for path, text in texts.items() if "\ufffd" not in text}

    def text(self, name: str) -> str:
        """An object's content."""
        return self._run("cat-file", "blob", name)

    def merge(self, base: str, **sides: str) -> Merge:
        """Merge two trees with a common base; git marks conflicts with the names of the sides."""
        root = self._run("commit-tree", base, "-m", "base").strip()
        for side, tree in sides.items():
            commit = self._run("commit-tree", tree, "-p", root, "-m", side).strip()
            self._run("update-ref", f"refs/heads/{side}", commit)
        style = ("-c", "merge.conflictStyle=zdiff3")
        output = self._run(*style, "merge-tree", "--write-tree", "--name-only", "-z", *sides, accepted=(0, 1))
        tree, *rest = output.split("\0")
        conflicts = rest[: rest.index("")] if "" in rest else []
        messages = [" ".join(part.split()) for part in rest if part.startswith("CONFLICT") and ":" in part]
        return Merge(tree, tuple(conflicts), tuple(messages))

    def changes(self, before: str, after: str) -> list[Change]:
        """The differences between two trees."""
        old, new = self.entries(before), self.entries(after)
        changes = [Change(path, old.get(path), new.get(path)) for path in sorted({*old, *new})]
        return [change for change in changes if change.before != change.after]

    def diff(self, before: str, after: str) -> str:
        """The differences between two trees, as a patch."""
        return self._run("diff", "--no-color", "--no-ext-diff", before, after)

    def _run(
        self, *words: str, cwd: Path | None = None, text: str | None = None, accepted: Sequence[int] = (0,)
    ) -> str:
        env = git.NO_SETTINGS | _AUTHOR | {"GIT_DIR": str(self._folder)}
        settings = ("-c", f"core.attributesFile={os.devnull}", "-c", "core.autocrlf=false")
        ran = git.run(*settings, *words, cwd=cwd or self._folder, env=env, text=text)
        if ran.code not in accepted:
            git.check_disk(ran.stderr, self._folder)
            raise ToolFailed(f"git failed: {ran.stderr.strip() or ran.code}")
        return ran.stdout


@contextmanager
def scratch(work: Worktree) -> Iterator[Scratch]:
    """A scratch repository beside `work` while the block runs."""
    with files.scratch() as folder:
        made = folder / "git"
        made.mkdir()
        yield Scratch(made, work)


@contextmanager
def as_committed(top: Path, root: Path) -> Iterator[Worktree]:
    """The project in `root`, as if all below `top` that git doesn't ignore were committed; to read only.

    git's own folder is ours, so nothing is written to the user's.
    """
    _check_version()
    with files.scratch() as folder:
        env = git.NO_SETTINGS | _AUTHOR | {"GIT_DIR": str(folder), "GIT_WORK_TREE": str(top.resolve())}
        for words in (
            ["init", "--quiet", "--template="],
            ["add", "--all", "--", ".", ":(exclude,glob)**/target/**"],
            ["commit", "--quiet", "--allow-empty", "--message=as it is"],
        ):
            ran = git.run(*words, cwd=top, env=env)
            if ran.code:
                git.check_disk(ran.stderr, folder)
                raise ToolFailed(f"git can't read {top}: {ran.stderr.strip()}")
        yield Worktree(root, env)


def _check_version() -> None:
    """Raise `MachineError` unless git is installed, and new enough to merge without a checkout."""
    output = git.run("--version").stdout
    version = Version.find(output)
    if version and version < _OLDEST:
        raise MachineError(
            f"{git.program()} is {output.strip()}; merging needs {_OLDEST} or later",
            hint="install a newer git",
        )


def _remove(path: Path, root: Path) -> None:
    """Remove a file, and the folders that are empty then, as git does."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    for folder in path.parents:
        if folder == root:
            break
        with suppress(OSError):
            folder.rmdir()
