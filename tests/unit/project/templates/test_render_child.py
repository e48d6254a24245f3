"""Why a template can't be rendered: whose fault it is."""

import errno

import pytest

from scaffold.errors import MachineError, ProjectError
from scaffold.project.templates.render_child import failure


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_the_machines_fault(code):
    known = failure(OSError(code, "it is full", "a/b"))
    assert isinstance(known, MachineError)
    assert known.message == "a/b: it is full"


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EISDIR, errno.EACCES])
def test_other_files_that_a_template_trips_over_are_its_own_fault(code):
    assert isinstance(failure(OSError(code, "no", "a/b")), ProjectError)
