"""A project in git: what is committed, merges made aside, and their outcome put into the files.

Nothing of the user's repository is written, no object and no index: what git makes on the way lies in a
repository of ours, which borrows the user's objects. The user's settings and hooks don't reach that one;
they do count where a file of the project is read or written (ends of lines, filters).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, git, process
from scaffold.errors import MachineError, ToolFailed, UsageError

LINK = "120000"  # git's mode of a symbolic link
_OLDEST = (2, 38)  # the first whose `merge-tree` merges as `merge` does
_SHOWN = 5  # names in a message
# always the same, so that the commits which git names beside a conflict are, too
_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "scaffold"), ("EMAIL", "scaffold"), ("DATE", "2000-01-01T00:00:00Z"))
}


@dataclass(frozen=True)
class Entry:
    """What lies at a path: git's mode and the object's name."""

    mode: str
    name: str


@dataclass(frozen=True)
class Change:
    """A path, relative to the project, and what is there before and after; None is nothing."""

    path: str
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True)
class Merge:
    """The merged tree, the paths that are in conflict, and what git says of them."""

    tree: str
    conflicts: tuple[str, ...]
    words: tuple[str, ...]


class Worktree:
    """The project in `root`, a folder of a git repository that has commits.

    Raises `UsageError` when it is no such folder, `MachineError` when git isn't there or too old.
    """

    def __init__(self, root: Path) -> None:
        self.root = self._top = root.resolve()
        _check_version()
        commit = f"`cd {shlex.quote(str(self.root))} && git init && git add -A && git commit -m 'as it was'`"
        said = self._run("rev-parse", "--show-toplevel", "--show-prefix", "--git-path", "objects")
        if said.code != 0:
            if "not a git repository" not in said.stderr:
                raise ToolFailed(f"git can't read {self.root}: {said.stderr.strip()}")
            raise UsageError(f"{self.root} is in no git repository", hint=f"{commit} makes it one")
        top, self._prefix, objects = said.stdout.splitlines()
        self._top, self.objects = Path(top), (self.root / objects).resolve()
        said = self._run("rev-parse", "--verify", "--quiet", f"HEAD:{self._prefix}")
        if said.code != 0:
            raise UsageError(f"nothing of {self.root} is committed", hint="`git add -A && git commit`")
        self.tree = said.stdout.strip()
        self.hash = self._run("rev-parse", "--show-object-format").stdout.strip()
        self._modes = self._run("config", "--type=bool", "core.fileMode").stdout.strip() != "false"

    def check_untouched(self, changes: Sequence[Change]) -> None:
        """Raise `UsageError` unless each path is as it was committed, or as it is to become."""
        going = {change.path for change in changes if change.after is None}
        touched = [change.path for change in changes if not self._is_untouched(change, going)]
        if touched:
            more = f" and {len(touched) - _SHOWN} more" if len(touched) > _SHOWN else ""
            raise UsageError(
                f"uncommitted changes in {', '.join(touched[:_SHOWN])}{more} would be lost",
                hint=f"`git -C {shlex.quote(str(self.root))} add -A && git commit`, or `git stash -u`; "
                "what git ignores is for you to move away; then do this again",
            )

    def apply(self, changes: Sequence[Change], scratch: Scratch, *, last: str) -> None:
        """Put the changes into the project's files, the path `last` at the end.

        All is made ready aside, and then renamed into place. Killed in between, some files are the new
        ones; doing it again does the rest. Raises `UsageError`, and changes nothing, when work that isn't
        committed would be lost.
        """
        # what goes first: a file may make room for a folder of its name
        ordered = sorted(changes, key=lambda change: (change.path == last, change.after is not None))
        with files.staging(self.root) as aside:
            for number, change in enumerate(ordered):
                if change.after:
                    self._make(aside / str(number), change.path, change.after, scratch)
            self.check_untouched(changes)  # only now: making ready may have taken a while
            with process.uninterrupted():
                for number, change in enumerate(ordered):
                    target = self.root / change.path
                    if change.after is None:
                        _remove(target, self.root)
                    else:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        files.move(aside / str(number), target)

    def _is_untouched(self, change: Change, going: Collection[str]) -> bool:
        path = self.root / change.path
        for parent in Path(change.path).parents[:-1]:
            folder = self.root / parent
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                gone = change.after is None and not folder.is_symlink()
                return gone or (change.before is None and parent.as_posix() in going)
        if path.is_dir() and not path.is_symlink():
            return change.after is None or (change.before is None and self._goes(path, going))
        if not path.exists() and not path.is_symlink():
            return change.before is None or change.after is None
        found = self._entry(change.path)
        return any(found and side and self._is(found, side) for side in (change.before, change.after))

    def _goes(self, folder: Path, going: Collection[str]) -> bool:
        """Whether nothing is left of a folder when these files are gone."""
        below = list(folder.rglob("*"))
        leaves = [each for each in below if each.is_symlink() or not each.is_dir() or not any(each.iterdir())]
        return bool(leaves) and all(each.relative_to(self.root).as_posix() in going for each in leaves)

    def _is(self, found: Entry, side: Entry) -> bool:
        return found.name == side.name and (found.mode == side.mode or not self._modes)

    def _entry(self, path: str) -> Entry | None:
        """What lies in the project's folder; None for what git can't hold."""
        whole = self.root / path
        if whole.is_symlink():
            said = self._run("hash-object", "--stdin", text=str(whole.readlink()))
            return Entry(LINK, said.stdout.strip())
        if not whole.is_file():
            return None
        said = self._run("hash-object", "--", self._prefix + path)
        return Entry("100755" if whole.stat().st_mode & 0o100 else "100644", said.stdout.strip())

    def _make(self, made: Path, path: str, entry: Entry, scratch: Scratch) -> None:
        """Write an object to the file `made`, as git would check it out at `path`."""
        if entry.mode == LINK:
            made.symlink_to(scratch.text(entry.name))
            return
        env = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(scratch.objects)}
        argv = ["cat-file", "--filters", f"--path={self._prefix}{path}", entry.name]
        with made.open("wb") as file:
            with git.spawn(*argv, cwd=self._top, env=env, stdout=file) as child:
                if child.wait():
                    raise ToolFailed(f"git can't write {path}: `git cat-file --filters` failed")
            files.settle(file)
        if entry.mode == "100755":
            mode = made.stat().st_mode
            made.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it

    def _run(self, *words: str, text: str | None = None) -> process.Completed:
        """Run git at the top of the repository; to find that, in the project."""
        return git.run(*words, cwd=self._top, text=text)


class Scratch:
    """A repository of ours in `folder`, which reads the objects of a project's."""

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
        """A tree with other contents at some paths; a file that was there keeps its mode."""
        there = self.entries(tree)
        self._run("read-tree", tree)
        for path, content in contents.items():
            name = self._run("hash-object", "-w", "--stdin", text=content).strip()
            mode = there[path].mode if path in there else "100644"
            self._run("update-index", "--add", "--cacheinfo", f"{mode},{name},{path}")
        return self._run("write-tree").strip()

    def entries(self, tree: str) -> dict[str, Entry]:
        """Everything in a tree, by its path."""
        found = {}
        for line in self._run("ls-tree", "-r", "-z", tree).split("\0")[:-1]:
            said, _, path = line.partition("\t")
            mode, _, name = said.split()
            found[path] = Entry(mode, name)
        return found

    def mentioning(self, tree: str, pattern: str) -> dict[str, str]:
        """The text files in a tree where an extended regular expression finds something, by path."""
        found = self._run("grep", "-I", "-l", "-z", "-E", "-e", pattern, tree, fine=(0, 1))
        paths = [path.removeprefix(f"{tree}:") for path in found.split("\0")[:-1]]
        read = {
            path: self._run("cat-file", "blob", f"{tree}:{path}") for path in paths if "\ufffd" not in path
        }
        return {path: text for path, text in read.items() if "\ufffd" not in text}

    def text(self, name: str) -> str:
        """An object's content."""
        return self._run("cat-file", "blob", name)

    def merge(self, base: str, **sides: str) -> Merge:
        """Merge two trees that come from a third; git marks conflicts with the names of the sides."""
        root = self._run("commit-tree", base, "-m", "base").strip()
        for side, tree in sides.items():
            commit = self._run("commit-tree", tree, "-p", root, "-m", side).strip()
            self._run("update-ref", f"refs/heads/{side}", commit)
        style = ("-c", "merge.conflictStyle=zdiff3")
        said = self._run(*style, "merge-tree", "--write-tree", "--name-only", "-z", *sides, fine=(0, 1))
        tree, *rest = said.split("\0")
        conflicts = rest[: rest.index("")] if "" in rest else []
        words = [word for word in rest if word.startswith("CONFLICT")]
        return Merge(tree, tuple(conflicts), tuple(" ".join(word.split()) for word in words if ":" in word))

    def changes(self, before: str, after: str) -> list[Change]:
        """What differs between two trees."""
        there, then = self.entries(before), self.entries(after)
        paths = sorted({*there, *then})
        found = [Change(path, there.get(path), then.get(path)) for path in paths]
        return [change for change in found if change.before != change.after]

    def diff(self, before: str, after: str) -> str:
        """The same as a patch."""
        return self._run("diff", "--no-color", "--no-ext-diff", before, after)

    def _run(
        self, *words: str, cwd: Path | None = None, text: str | None = None, fine: Sequence[int] = (0,)
    ) -> str:
        env = git.ALONE | _AUTHOR | {"GIT_DIR": str(self._folder)}
        settings = ("-c", f"core.attributesFile={os.devnull}", "-c", "core.autocrlf=false")
        ran = git.run(*settings, *words, cwd=cwd or self._folder, env=env, text=text)
        if ran.code not in fine:
            raise ToolFailed(f"git failed: {ran.stderr.strip() or ran.code}")
        return ran.stdout


@contextmanager
def scratch(work: Worktree) -> Iterator[Scratch]:
    """A scratch repository beside `work` while the block runs."""
    with files.scratch() as folder:
        made = folder / "git"
        made.mkdir()
        yield Scratch(made, work)


def _check_version() -> None:
    """Raise `MachineError` unless git is there, and new enough to merge without a checkout."""
    version = git.run("--version").stdout
    found = re.search(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise MachineError(
            f"{git.program()} is {version.strip()}; merging takes {oldest} or later",
            hint="install a newer git",
        )


def _remove(path: Path, root: Path) -> None:
    """Take a file away, and the folders that are empty then, as git does."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    for folder in path.parents:
        if folder == root:
            break
        with suppress(OSError):
            folder.rmdir()
