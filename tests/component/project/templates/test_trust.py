"""Foreign templates: none runs before it is trusted, trust is in one exact state, what runs ends with us."""

from __future__ import annotations

import json
import shlex
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.commands import INVOKE, SCAFFOLD, TASKS, entered, error, listing, run
from support.foreign_templates import INSIDE, commit, hook, template, zipped

from scaffold.core import files
from scaffold.errors import ProjectError, UsageError
from scaffold.project.crate import Project
from scaffold.project.templates import answers, trust
from scaffold.project.templates.source import fetched

MADE = ["Cargo.toml", "src", "src/lib.rs"]


@pytest.fixture(autouse=True)
def user(tmp_path_factory, monkeypatch):
    """A user's folders of our own."""
    folder = tmp_path_factory.mktemp("user")
    for kind in ("CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(folder / kind))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    for name in ("CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def mine(tmp_path):
    return template(tmp_path / "mine")


@pytest.fixture
def out(tmp_path):
    """Where projects go."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def new(out, capsys):
    """`scaffold new` of a foreign template."""

    def new(source, *words, name="a_filter"):
        return entered(capsys, "new", name, "--template", source, "--output-dir", out, "--no-input", *words)

    return new


def left(user, out):
    """What of a render that failed is still there."""
    return [*user.rglob(".scaffold-*"), *listing(out)]


# --- trust


@pytest.mark.faults(
    "R22",
    injected="a template's text controls the terminal, or imitates our messages",
    seen="shown as what they are",
)
def test_a_template_cannot_talk_to_the_terminal_nor_as_us(mine, new):
    (mine / "cookiecutter.json").write_text(
        json.dumps({"name": "a", "_extensions": ["a\x1b[2J\ntrusted: b"]})
    )
    ran = new(mine)
    assert "it loads a\\x1b[2J\\ntrusted: b\n" in ran.err
    assert "\x1b" not in ran.err


def test_a_hooks_git_doesnt_reach_the_repository_that_scaffold_is_run_in(
    mine, new, out, tmp_path, monkeypatch
):
    """By a hook of that, say, to which git tells its folder and its index."""
    hook(mine, "import os\nassert os.system('git init -q && git add -A') == 0\n")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").write_text("x")
    commit(tmp_path / "theirs")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "theirs/.git/index"))
    before = (tmp_path / "theirs/.git/index").read_bytes()
    assert new(mine, "--trust").code == 0
    assert (tmp_path / "theirs/.git/index").read_bytes() == before
    assert (out / "a_filter/.git/index").exists()


def test_a_hook_that_changes_the_template_does_so_once(mine):
    hook(mine, "import os\nos.mkdir('hooks/made')\n", "pre_prompt.py")
    with fetched(str(mine)) as source:
        for _ in range(2):
            assert answers.settle(source, "a", {}, no_input=True)["name"] == "a"


def test_each_state_of_a_template_has_its_own_extensions(tmp_path):
    """`update` renders two of them in one run."""
    seen = []
    for state in ("old", "new"):
        folder = template(tmp_path / state, _extensions=["mine_extensions.Now"], __now="{{ now }}")
        (folder / "mine_extensions.py").write_text(
            "from jinja2.ext import Extension\n"
            "class Now(Extension):\n"
            "    def __init__(self, environment):\n"
            "        super().__init__(environment)\n"
            f"        environment.globals['now'] = '{state}'\n"
        )
        with fetched(str(folder)) as source:
            seen.append(answers.settle(source, "a", {}, no_input=True)["__now"])
    assert seen == ["old", "new"]


def test_what_isnt_trusted_isnt_rendered_and_says_where_from_which_state_and_what_to_type(
    mine, new, user, out
):
    hook(mine, "print('hello')")
    (mine / "hooks" / "notes.txt").write_text("no hook")
    pin = commit(mine)
    ran = new(f"file://{mine}")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"Fetching file://{mine}\ntemplate: file://{mine} at {pin}\nit runs hooks/post_gen_project.py\n"
    ) + error(
        "the template mine is not trusted, and rendering it can run any code as you",
        f"read it, then add `--checkout {pin} --trust`: that trusts only this state",
    )
    assert left(user, out) == []
    assert trust.trusted() == []


def test_what_the_hint_says_to_type_trusts_that_state_and_later_ones_need_it_again(mine, new, out):
    pin = commit(mine)
    assert new(f"file://{mine}", "--checkout", pin, "--trust").code == 0
    assert listing(out / "a_filter") == MADE
    assert new(f"file://{mine}", name="second").code == 0, "the same commit"
    assert new(mine, name="third").code == 0, "and from elsewhere"
    (mine / INSIDE / "more").write_text("x")
    assert new(mine, name="fourth").code == 2, "not committed"
    newer = commit(mine)
    ran = new(f"file://{mine}", name="fourth")
    assert (ran.code, f"at {newer}\n" in ran.err) == (2, True)
    assert new(f"file://{mine}", "--checkout", pin, name="fourth").code == 0
    assert new(f"file://{mine}", "--trust", name="fifth").code == 0
    assert (out / "fifth" / "more").exists()
    assert [each.pin for each in trust.trusted()] == [pin, newer]


def test_a_folder_is_trusted_by_its_content_and_not_by_its_place(mine, new, tmp_path):
    archive = zipped(mine, tmp_path / "a.zip")
    assert new(archive).code == 2
    assert new(archive, "--trust").code == 0
    assert new(mine, name="second").code == 0
    (mine / "cookiecutter.json").write_text('{"name": "a", "description": "Other"}')
    assert new(mine, name="third").code == 2


def test_trust_in_one_state_isnt_given_to_another_that_came_meanwhile(mine, new, out):
    pin = commit(mine)
    (mine / "more").write_text("x")
    ran = new(mine, "--checkout", trust_of(mine, new), "--trust")
    assert ran.code == 0
    (mine / "more").write_text("y")
    assert pin not in ran.err
    ran = new(mine, "--checkout", trust.trusted()[0].pin, "--trust", name="second")
    assert (ran.code, "has changed" in ran.err) == (2, True)


def trust_of(mine, new):
    return new(mine).err.partition("--checkout ")[2].split()[0]


@pytest.mark.faults(
    "R22",
    injected="a commit with two templates, of which one is trusted",
    seen="the other isn't",
)
@pytest.mark.parametrize("kind", ["a URL", "a folder", "a folder and a commit"])
def test_trust_in_one_folder_of_a_commit_isnt_given_to_another(kind, tmp_path, new, out):
    every = tmp_path / "every"
    template(every / "good")
    hook(template(every / "evil"), "print('hello')")
    (every / "better").symlink_to("good")
    pin = commit(every)

    def words(name):
        if kind == "a URL":
            return (f"file://{every}", "--directory", name)
        return (every / name,) if kind == "a folder" else (every / name, "--checkout", pin)

    ran = new(*words("good"))
    assert ran.err.endswith(f"--checkout {pin} --trust`: that trusts only this state of this folder\n")
    assert new(*words("good"), "--trust").code == 0
    ran = new(*words("evil"), name="second")
    assert (ran.code, "it runs hooks/post_gen_project.py" in ran.err) == (2, True)
    for number, again in enumerate([(f"file://{every}", "./good/"), (every, "good"), (every / "good",)]):
        more = ("--directory", again[1]) if len(again) > 1 else ()
        assert new(again[0], *more, name=f"again_{number}").code == 0, again
    assert [(each.pin, each.directory) for each in trust.trusted()] == [(pin, "good")]
    assert new(*words("evil"), "--trust", name="third").code == 0
    assert [each.directory for each in trust.trusted()] == ["good", "evil"]
    trust.forget(pin)
    assert trust.trusted() == []


def test_trust_in_a_folder_isnt_given_to_the_top_of_the_commit_nor_the_other_way(tmp_path, new):
    every = template(tmp_path / "every")
    template(every / "inner")
    commit(every)
    assert new(every, "--directory", "inner", "--trust").code == 0
    assert new(every, name="second").code == 2
    assert new(every, "--trust", name="second").code == 0
    assert new(every / "inner", name="third").code == 0


@pytest.mark.parametrize("named", ["good", "evil", None])
def test_a_commit_that_an_earlier_version_trusted_is_trusted_for_no_folder(tmp_path, new, user, named):
    """They recorded what followed --directory, which was nothing for the path of a folder in a commit."""
    every = template(tmp_path / "every")
    template(every / "good")
    template(every / "evil")
    pin = commit(every)
    record = files.data_dir() / "trusted-templates.json"
    record.parent.mkdir(parents=True)
    old = {"pin": pin, "name": "good", "source": str(every / "good"), "since": "2026-01-01T00:00:00+00:00"}
    record.write_text(json.dumps([old | {"directory": named}]))
    for number, folder in enumerate((every, every / "good", every / "evil")):
        assert new(folder, name=f"made_{number}").code == 2
    assert new(every / "good", "--trust").code == 0
    assert [each.place for each in trust.trusted()] == ["good"], "in the old one's place"
    assert new(every / "evil", name="evil").code == 2


def test_a_folders_content_that_an_earlier_version_trusted_is_trusted(mine, new):
    assert new(mine, "--trust").code == 0
    record = files.data_dir() / "trusted-templates.json"
    (old,) = json.loads(record.read_text())
    del old["place"]
    record.write_text(json.dumps([old]))
    assert new(mine, name="second").code == 0


def test_one_that_comes_with_us_needs_no_trust(new, out):
    assert new("http", "--trust").code == 0
    assert trust.trusted() == []


def test_at_every_door(mine, out, tmp_path):
    (tmp_path / "tasks.py").write_text(TASKS)
    words = ("new", "a_filter", "--template", "./mine", "--output-dir", out, "--no-input")
    assert run(*INVOKE, *words, cwd=tmp_path).code == 2
    assert run(*INVOKE, *words, "--trust", cwd=tmp_path).code == 0
    assert Project.load(out / "a_filter").name == "a_filter"


# --- nothing runs before

REACHES = "{{ cycler.__init__.__globals__.os.mkdir(cookiecutter.mark) }}"


@pytest.mark.faults(
    "R22",
    injected="a template whose text, names, defaults, hooks or extensions run code",
    seen="none before --trust",
)
@pytest.mark.parametrize(
    "where", ["default", "text", "name", "hook", "before", "extension", "option", "private"]
)
def test_code_of_a_template_runs_when_it_is_trusted_and_not_before(where, tmp_path, new, out):
    """Jinja reaches all of Python from a template's text; hooks and extensions are Python."""
    mark = tmp_path / "mark"
    code = f"import os\nif not os.path.exists({str(mark)!r}): os.mkdir({str(mark)!r})\n"
    variables = {"mark": str(mark)}
    if where in ("default", "private"):
        variables["__derived" if where == "private" else "more"] = REACHES
    elif where == "extension":
        variables["_extensions"] = ["evil.Extension"]
    elif where == "option":
        variables["_jinja2_env_vars"] = {"undefined": "nothing that can be called"}
    mine = template(tmp_path / "mine", **variables)
    if where == "text":
        (mine / INSIDE / "README.md").write_text(REACHES)
    elif where == "name":
        (
            mine
            / INSIDE
            / f"{REACHES.replace('cookiecutter.mark', repr(str(mark)).replace('/', chr(92) + 'x2f'))}"
        ).write_text("x")
    elif where in ("hook", "before"):
        hook(mine, code, "pre_prompt.py" if where == "before" else "pre_gen_project.py")
    elif where == "extension":
        (mine / "evil.py").write_text(f"{code}\nfrom jinja2.ext import Extension\n")
    before = listing(tmp_path)
    ran = new(mine)
    assert (ran.code, listing(tmp_path)) == (2, before)
    if where == "extension":
        assert "it loads evil.Extension" in ran.err
    new(mine, "--trust")
    assert mark.exists() is (where != "option"), "or this shows nothing"


# --- the record


def test_the_record_is_the_users_alone_and_whole(mine, new):
    new(mine, "--trust")
    path = files.data_dir() / "trusted-templates.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each["source"] for each in json.loads(path.read_text())] == [str(mine)]


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[1]", '[{"pin": "a"}]', "\0", '"x"', "[[]]", "null", "5"]
)
def test_a_broken_record_trusts_nothing_and_says_so(content, mine, new, user, out):
    path = files.data_dir() / "trusted-templates.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    ran = new(mine, "--trust")
    assert (ran.code, path.read_text()) == (4, content)
    assert f"error: {path} is damaged: " in ran.err
    assert ran.err.endswith(f"\nhint: `rm {path}` forgets what it records\n")
    assert left(user, out) == []


def test_the_list_says_what_each_is_and_forgets(mine, new, capsys):
    ran = entered(capsys, "templates")
    assert (ran.code, ran.err) == (0, "")
    assert any(line.startswith("http ") and len(line.split()) > 3 for line in ran.out.splitlines())
    assert "trusted" not in ran.out
    new(mine, "--trust")
    first = trust.trusted()[0]
    (mine / "more").write_text("x")
    new(mine, "--trust", name="second")
    shown = entered(capsys, "templates").out
    assert f"\ntrusted:\n{first.pin}  {mine}, since {first.since[:10]}\n" in shown
    told = json.loads(entered(capsys, "templates", "--json").out)
    assert [each["name"] for each in told["bundled"]] == sorted(each["name"] for each in told["bundled"])
    assert [each["pin"] for each in told["trusted"]] == [each.pin for each in trust.trusted()]
    for wrong in ("sha256:", "abc", "0000000000", first.pin[:10]):
        ran = entered(capsys, "templates", "--forget", wrong)
        assert (ran.code, len(trust.trusted())) == (2, 2), wrong
    assert entered(capsys, "templates", "--forget", first.pin[:20]).code == 0
    assert first.pin not in [each.pin for each in trust.trusted()]
    assert new(mine, name="third").code == 0
    (mine / "more").unlink()
    assert new(mine, name="fourth").code == 2


def test_many_at_once_are_all_remembered(tmp_path, out):
    """The record is read, changed and written under a lock."""
    sources = [template(tmp_path / f"t{number}", number=str(number)) for number in range(4)]
    children = [
        subprocess.Popen(
            (
                *SCAFFOLD,
                "new",
                f"a{number}",
                "--template",
                source,
                "--trust",
                "--output-dir",
                out,
                "--no-input",
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number, source in enumerate(sources)
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    assert sorted(each.source for each in trust.trusted()) == [str(source) for source in sources]


# --- what is rendered


def test_variables_of_every_kind_are_as_cookiecutter_has_them(tmp_path, out, new):
    """Derived defaults, choices, yes or no, objects, private ones: the same files as cookiecutter's own."""
    mine = template(
        tmp_path / "mine",
        title="{{ cookiecutter.name | title }}",
        licence=["MIT", "{{ cookiecutter.title }}-1.0"],
        tests=True,
        ports={"{{ cookiecutter.name }}": {"of": "{{ cookiecutter.licence }}"}},
        number=5,
        lines="one\ntwo",
        __upper="{{ cookiecutter.title | upper }}",
        _plain="{{ cookiecutter.title }}",
    )
    asked = "title licence tests ports number lines __upper _plain".split()
    text = "".join(f"{key}={{{{ cookiecutter.{key} }}}}\n" for key in asked)
    (mine / INSIDE / "all.txt").write_text(text)
    assert new(mine, "--trust", name="a").code == 0
    theirs = run(
        sys.executable, "-m", "cookiecutter", mine, "--no-input", "--output-dir", tmp_path / "theirs"
    )
    assert theirs.code == 0, theirs.err
    wanted = (tmp_path / "theirs" / "a" / "all.txt").read_text()
    assert (out / "a" / "all.txt").read_text() == wanted
    assert "title=A\nlicence=MIT\ntests=True\nports={'a': {'of': 'MIT'}}\nnumber=5\n" in wanted
    words = ("licence=A_filter-1.0", "tests=no", 'ports={"x": 1}', "number=7")
    ran = new(mine, *(word for pair in words for word in ("-v", pair)))
    assert ran.code == 0, ran.err
    text = (out / "a_filter" / "all.txt").read_text()
    assert "licence=A_filter-1.0\ntests=False\nports={'x': 1}\nnumber=7\n" in text
    for wrong, why in (
        ("licence=GPL", "no value for the variable `licence` named `GPL`"),
        ("tests=perhaps", "the variable `tests` must be yes or no, not 'perhaps'"),
        ("ports=[]", "the variable `ports` must be a JSON object, not '[]'"),
        ("number=a\nb", "the variable `number` must be one line of plain text, not 'a\\nb'"),
        ("titel=a", "no variable named `titel`"),
    ):
        ran = new(mine, "-v", wrong, name="b")
        assert (ran.code, f"error: {why}" in ran.err) == (2, True), ran.err


def test_hooks_and_extensions_run_as_cookiecutters_do(tmp_path, out, new, user):
    mine = template(tmp_path / "mine", shout="{{ 'a' | loud }}", _extensions=["local.Loud"])
    (mine / "local.py").write_text(
        "from jinja2.ext import Extension\n"
        "class Loud(Extension):\n"
        "    def __init__(self, env):\n"
        "        super().__init__(env)\n"
        "        env.filters['loud'] = lambda text: text.upper() + '!'\n"
    )
    (mine / INSIDE / "shout").write_text("{{ cookiecutter.shout }}")
    hook(mine, "open('cookiecutter.json', 'a').close()", "pre_prompt.py")
    hook(mine, "#!/bin/sh\necho {{ cookiecutter.name }} > before\n", "pre_gen_project.sh")
    hook(mine, "import os\nprint('words of a hook')\nos.rename('before', 'after')\n")
    ran = run(
        *(*SCAFFOLD, "new", "a_filter", "--template", mine, "--output-dir", out, "--no-input"), "--trust"
    )
    assert ran.code == 0, ran.err
    assert ran.out == f"{out / 'a_filter'}\n"
    assert "words of a hook\n" in ran.err
    assert (out / "a_filter" / "after").read_text() == "a_filter\n"
    assert (out / "a_filter" / "shout").read_text() == "A!"
    assert sorted(path.name for path in user.iterdir()) == ["CACHE", "DATA"], (
        "not cookiecutter's copies of the hooks"
    )


# --- what is refused, trusted or not

BROKEN = {
    "undefined variable": (
        {"README.md": "{{ cookiecutter.nothing }}"},
        {},
        "a variable of the template isn't defined, in file 'README.md': 'dict object' has no attribute 'not",
    ),
    "undefined in a name": (
        {"{{cookiecutter.nothing}}.md": "x"},
        {},
        "a variable of the template isn't defined, in the name {{cookiecutter.nothing}}.md: 'dict object'",
    ),
    "undefined in a default": (
        {},
        {"more": "{{ cookiecutter.nothing }}"},
        "the template can't be rendered: 'dict object' has no attribute 'nothing' (in a variable's default)",
    ),
    "no Jinja": ({"README.md": "a\n{% if %}"}, {}, "the template isn't valid Jinja in README.md, line 2: "),
    "no Jinja in a default": ({}, {"more": "{{"}, "the template isn't valid Jinja in a name, line 1: "),
    "an exception": ({"README.md": "{{ 1 / 0 }}"}, {}, "the template can't be rendered: ZeroDivisionError: "),
    "its end": (
        {"README.md": "{{ cycler.__init__.__globals__.os._exit(3) }}"},
        {},
        "the template ended its own rendering with exit code 3",
    ),
    "no such extension": (
        {},
        {"_extensions": ["nowhere.Extension"]},
        "the template can't be rendered: Unable to load extension: No module named 'nowhere'",
    ),
    "out by a name": (
        {"{{cookiecutter.where}}": "x"},
        {"where": "../../../out/escaped"},
        "the template would write {{cookiecutter.where}} to ../../../out/escaped, outside the project",
    ),
    "out by a path": (
        {"{{cookiecutter.where}}": "x"},
        {"where": "/tmp/escaped"},
        "the template would write {{cookiecutter.where}} to /tmp/escaped, outside the project",
    ),
    "out by a folder": (
        {"{{cookiecutter.where}}/more": "x"},
        {"where": ".."},
        "the template would write {{cookiecutter.where}} to .., outside the project",
    ),
    "out by a copied folder": (
        {"{{cookiecutter.where}}/more": "x"},
        {"where": "../escaped", "_copy_without_render": ["*"]},
        "the template would write {{cookiecutter.where}} to ../escaped, outside the project",
    ),
    "no manifest": (
        {"Cargo.toml": None},
        {},
        "the template mine makes an invalid project: no Cargo.toml in a_filter",
    ),
    "no plugin": (
        {"Cargo.toml": '[package]\nname = "a"\n'},
        {},
        "the template mine makes an invalid project: a_filter/Cargo.toml doesn't build a cdylib",
    ),
    "no TOML": (
        {"Cargo.toml": "["},
        {},
        "the template mine makes an invalid project: a_filter/Cargo.toml is not TOML: ",
    ),
}


@pytest.mark.faults(
    "R22",
    injected="a trusted template that is broken, or writes out of its project",
    seen="exit code 3, named",
)
@pytest.mark.parametrize(("texts", "variables", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_template_is_named_and_leaves_nothing(texts, variables, why, tmp_path, new, out, user):
    mine = template(tmp_path / "mine", **variables)
    for name, text in texts.items():
        path = mine / INSIDE / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
    before = listing(tmp_path)
    ran = new(mine, "--trust")
    assert ran.code == 3, ran.err
    assert f"\nerror: {why}" in ran.err
    assert (left(user, out), listing(tmp_path)) == ([], before)


@pytest.mark.parametrize("folder", ["{{cookiecutter.slug}}", "{{cookiecutter.name}}-x", "plain"])
def test_a_template_whose_folder_isnt_called_like_the_crate(folder, tmp_path, new, user, out):
    mine = template(tmp_path / "mine", slug="{{ cookiecutter.name }}_slug")
    (mine / INSIDE).rename(mine / folder)
    ran = new(mine, "--trust")
    assert (ran.code, left(user, out)) == (3, [])
    if folder == "plain":
        assert "error: the template has no folder to render" in ran.err
    else:
        assert f"error: the template's folder {folder} becomes 'a_filter" in ran.err
    if "slug" in folder:
        assert "-v slug=a_filter" in ran.err
        assert new(mine, "-v", "slug=a_filter").code == 0
    else:
        assert "-v" not in ran.err


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"project": "My Filter", "slug": "{{ cookiecutter.project|lower|replace(' ', '_') }}"}, "slug"),
        ({"project": "My Filter", "__slug": "{{ cookiecutter.project|lower|replace(' ', '_') }}"}, "__slug"),
        ({"project": "x", "__a": "{{cookiecutter.project}}", "__slug": "{{cookiecutter.__a}}"}, "__slug"),
    ],
)
def test_the_variable_that_the_folder_is_made_of_is_named_and_can_be_set(variables, folder, tmp_path, new):
    mine = template(tmp_path / "mine", **variables)
    (mine / INSIDE).rename(mine / f"{{{{cookiecutter.{folder}}}}}")
    hint = new(mine, "--trust").err.rpartition("hint: ")[2]
    assert hint.startswith("set the variable that it is made of: -v ")
    option = shlex.split(hint.partition("made of: ")[2])
    assert new(mine, *option).code == 0


def test_a_variable_that_gives_no_such_folder_is_named_too(tmp_path, new):
    mine = template(tmp_path / "mine", project="x")
    (mine / INSIDE).rename(mine / "x-{{cookiecutter.project}}")
    assert "hint: set the variable that it is made of, project: -v project=VALUE" in new(mine, "--trust").err


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("import sys\nsys.exit(7)", 5, "a hook of the template failed: Hook script failed (exit status: 7)"),
        (
            "import os\nos.symlink('/etc', 'etc')",
            3,
            "etc is a link that leads out of the project, or nowhere: /etc",
        ),
        ("import shutil\nshutil.rmtree('src'), open('src', 'w')", 0, ""),
        (
            "import os\nos.remove('Cargo.toml')",
            3,
            "the template mine makes an invalid project: no Cargo.toml in a_filter",
        ),
        (
            "{{ cookiecutter.nothing }}",
            3,
            "the template can't be rendered: 'dict object' has no attribute 'nothing'",
        ),
    ],
)
def test_a_hook_that_fails_or_leads_out_leaves_nothing(text, code, why, mine, new, user, out):
    hook(mine, text)
    ran = new(mine, "--trust")
    assert (ran.code, "Traceback" in ran.err) == (code, False), ran.err
    if code:
        assert f"\nerror: {why}" in ran.err
        assert left(user, out) == []
    else:
        assert listing(out / "a_filter") == ["Cargo.toml", "src"]


@pytest.mark.parametrize("evil", ["../evil", "../../evil", "src/../../evil", "{place}/evil"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_no_file_is_written_outside_the_project(evil, kind, tmp_path, new, user, out):
    """However the name of a file or folder in the template is made up."""
    evil = evil.format(place=tmp_path)
    mine = template(tmp_path / "mine", evil=evil)
    path = mine / INSIDE / "{{ cookiecutter.evil }}"
    if kind == "folder":
        path.mkdir()
        path /= "file"
    path.write_text("x")
    before = listing(tmp_path / "mine")
    ran = new(mine, "--trust")
    assert ran.code == 3, ran.err
    assert "error: the template would write {{ cookiecutter.evil }}" in ran.err
    assert ran.err.rstrip().endswith("outside the project")
    assert (left(user, out), listing(tmp_path / "mine")) == ([], before)
    assert list(tmp_path.rglob("evil")) == []


@pytest.mark.parametrize(
    "key", ["_extensions", "_jinja2_env_vars", "_copy_without_render", "__prompts__", "more"]
)
@pytest.mark.parametrize("value", [5, "text", [], [5], [[]], {}, {"a": 5}, None, True, "{{ 1 }}"], ids=repr)
def test_no_setting_of_a_template_is_a_bug_of_ours(key, value, tmp_path):
    """Whatever JSON stands there, it is taken, or the template is said to be broken."""
    mine = template(tmp_path / "mine", **{key: value})
    with fetched(str(mine)) as found:
        found.check_fits()
        with suppress(UsageError):
            trust.require(found)
        with suppress(UsageError, ProjectError):
            answers.settle(found, "a_filter", {}, no_input=True)
    assert trust.trusted() == []


def test_a_newer_scaffold_is_asked_for_before_trust_is(tmp_path, new, user, out):
    mine = template(tmp_path / "mine", _scaffold=">=9")
    ran = new(mine, "--trust")
    assert (ran.code, left(user, out), trust.trusted()) == (2, [], [])
    assert "error: the template mine is for scaffold >=9, and this is 0.1.0" in ran.err


# --- ended


@pytest.mark.faults(
    "R10",
    injected="SIGINT, SIGTERM, SIGKILL while a template's hook runs",
    seen="the hook, and what it started, gone",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_a_hook_started_ends_with_us(number, mine, out, user, tmp_path):
    hook(
        mine,
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"with open({str(tmp_path / 'began')!r}, 'w') as file:\n"
        "    file.write(f'{os.getpid()} {child.pid}\\n')\n"
        "time.sleep(600)\n",
    )
    child = subprocess.Popen(
        (*SCAFFOLD, "new", "a_filter", "--template", mine, "--trust", "--output-dir", out, "--no-input"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    pids = [int(word) for word in waited(tmp_path / "began").split()]
    assert all(map(psutil.pid_exists, pids))
    child.send_signal(number)
    err = child.communicate(timeout=20)[1]
    assert child.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while any(map(runs, pids)):
        assert time.monotonic() < deadline, "a hook goes on"
        time.sleep(0.01)
    assert listing(out) == []
    if number != signal.SIGKILL:
        assert left(user, out) == []


def waited(path: Path) -> str:
    """What a file says once it says something, which is a sign."""
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)
    return path.read_text()


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
