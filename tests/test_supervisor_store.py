"""What is staged is whole, proven, read-only and never the live file; failures leave nothing."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from changeover.supervisor.digest import compute_hash, fingerprint
from changeover.supervisor.source import SourceSet
from changeover.supervisor.spec import PluginSpec
from changeover.supervisor.staged import StageError
from changeover.supervisor.store import Store

MIB = 1 << 20
TWIN_A = b'ANSWER = "102WY1n8OsXAOCG8"\n'
TWIN_B = b'ANSWER = "400AD19AA10E0BA6"\n'


class Abandoned(Exception):
    pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "store")


def write(path: Path, data: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def source_of(path: Path, *include: str) -> SourceSet:
    return SourceSet.of(PluginSpec(name="p", source=str(path), include=include))


def at_call(number: int, action: Callable[[], object]) -> Callable[[], None]:
    """A `breathe` that acts once, at its n-th call."""
    calls = 0

    def breathe() -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            action()

    return breathe


def forge(path: Path, data: bytes) -> None:
    """What somebody with an editor and the right to do so can do to a release."""
    path.parent.chmod(0o700)
    if path.exists():
        path.chmod(0o600)
    path.write_bytes(data)


def in_namespace(script: str, *arguments: object) -> str:
    """Run a script where it may mount file systems; what it prints."""
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounts in a user namespace")
    words = [str(argument) for argument in arguments]
    done = subprocess.run(
        [*command, sys.executable, "-c", dedent(script), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_is_staged_under_its_sha256(tmp_path: Path, store: Store) -> None:
    data = os.urandom(3 * MIB + 5)
    staged = store.stage(source_of(write(tmp_path / "p.whl", data)))
    assert staged.digest == hashlib.sha256(data).hexdigest()
    assert staged.path == store.root / staged.digest / "p.whl"
    assert staged.path.read_bytes() == data
    assert (staged.hash, staged.files, staged.size_bytes) == (compute_hash(data), 1, len(data))


def test_what_is_staged_is_read_only_and_no_hard_link(tmp_path: Path, store: Store) -> None:
    live = write(tmp_path / "p.py", "x")
    staged = store.stage(source_of(live))
    status = staged.path.stat()
    assert (status.st_mode & 0o777, staged.root.stat().st_mode & 0o777) == (0o400, 0o500)
    assert (status.st_nlink, status.st_ino == live.stat().st_ino) == (1, False)


def test_a_write_to_the_live_file_does_not_reach_the_release(tmp_path: Path, store: Store) -> None:
    live = write(tmp_path / "p.py", "old")
    staged = store.stage(source_of(live))
    with live.open("r+b") as file:
        file.write(b"new")
    assert staged.path.read_text() == "old"
    assert store.find(staged.digest, source_of(live)).path == staged.path


def test_a_program_can_be_run_from_the_store(tmp_path: Path, store: Store) -> None:
    program = write(tmp_path / "worker", "#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    staged = store.stage(source_of(program))
    assert subprocess.check_output([staged.path], text=True) == "hello\n"


def test_a_module_and_its_imports_keep_their_places(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "pack" / "__init__.py", "from .deep import ANSWER")
    write(tmp_path / "pack" / "deep.py", "ANSWER = 42")
    staged = store.stage(source_of(write(tmp_path / "p.py", "import pack; print(pack.ANSWER)")))
    done = subprocess.check_output([sys.executable, "-B", staged.path], text=True)
    assert (done, staged.files) == ("42\n", 3)


def test_a_folder_keeps_its_name_which_is_no_part_of_the_digest(
    tmp_path: Path, store: Store
) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "__init__.py", "x")
        write(tmp_path / name / "models" / "m.bin", b"\0")
    one, two = (store.stage(source_of(tmp_path / name)) for name in ("one", "two"))
    assert one.digest == two.digest
    assert (one.path.name, two.path.name) == ("one", "two")
    for staged in (one, two):
        assert (staged.path / "models" / "m.bin").read_bytes() == b"\0"


def test_equal_files_of_two_names_are_one_release(tmp_path: Path, store: Store) -> None:
    names = ("a.py", "b.py", "c.py")
    staged = [store.stage(source_of(write(tmp_path / name, "same"))) for name in names]
    assert len({each.digest for each in staged}) == 1
    assert [each.path.name for each in staged] == ["a.py", "b.py", "c.py"]
    assert [each.path.read_text() for each in staged] == ["same"] * 3


def test_plugins_that_import_each_other_share_a_release(tmp_path: Path, store: Store) -> None:
    a, b = write(tmp_path / "a.py", "import b"), write(tmp_path / "b.py", "import a")
    one, two = store.stage(source_of(a)), store.stage(source_of(b))
    assert (one.root, one.path.name, two.path.name) == (two.root, "a.py", "b.py")


def test_the_digest_is_that_of_the_live_tree(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "plug" / "tool").parent.joinpath("tool").chmod(0o755)
    write(tmp_path / "plug" / "data", b"\0\1")
    source = source_of(tmp_path / "plug")
    staged = store.stage(source)
    assert staged.fingerprint == fingerprint(source.resolve().files, tree=True)


def test_a_peek_names_what_would_be_staged_and_stages_nothing(tmp_path: Path, store: Store) -> None:
    source = source_of(write(tmp_path / "p.py", "x"))
    found = store.peek(source)
    assert os.listdir(store.root) == []
    assert found == store.stage(source).fingerprint


def test_a_callable_is_staged_as_its_bytes(store: Store) -> None:
    source = SourceSet.of(PluginSpec(name="double", pickled=b"\x80\0bytes"))
    staged = store.stage(source)
    assert staged.digest == hashlib.sha256(b"\x80\0bytes").hexdigest()
    assert staged.path.read_bytes() == b"\x80\0bytes"


def test_a_command_without_files_is_a_release_too(store: Store) -> None:
    source = SourceSet.of(PluginSpec(name="p", command=("ffmpeg",)))
    staged = store.stage(source)
    assert (staged.files, staged.path) == (0, store.root / staged.digest)
    assert store.find(staged.digest, source).digest == staged.digest


def test_a_content_that_is_there_is_not_copied_again(tmp_path: Path, store: Store) -> None:
    source = source_of(write(tmp_path / "p.py", "x"))
    before = store.stage(source).path.stat()
    assert store.stage(source).path.stat().st_ino == before.st_ino


def test_equal_trigger_hashes_are_two_releases(tmp_path: Path, store: Store) -> None:
    one = store.stage(source_of(write(tmp_path / "p.py", TWIN_A)))
    two = store.stage(source_of(write(tmp_path / "p.py", TWIN_B)))
    assert (one.hash == two.hash, one.digest == two.digest) == (True, False)
    assert (one.path.read_bytes(), two.path.read_bytes()) == (TWIN_A, TWIN_B)


@pytest.mark.parametrize("moment", range(1, 7))
def test_a_change_at_any_moment_of_staging_stages_one_whole_content(
    tmp_path: Path, store: Store, moment: int
) -> None:
    live = write(tmp_path / "p.bin", b"a" * (2 * MIB))
    breathe = at_call(moment, lambda: write(live, b"b" * (2 * MIB)))
    staged = store.stage(source_of(live), breathe=breathe)
    data = staged.path.read_bytes()
    assert (len(set(data)), hashlib.sha256(data).hexdigest()) == (1, staged.digest)
    assert os.listdir(store.root) == [staged.digest]


def test_a_change_between_the_hash_and_the_copy_is_seen(tmp_path: Path, store: Store) -> None:
    """The moment in between is long when a release that was changed by hand is read first."""
    live = write(tmp_path / "p.bin", b"a")
    staged = store.stage(source_of(live))
    forge(staged.path, b"evil")
    again = store.stage(source_of(live), breathe=at_call(2, lambda: write(live, b"b")))
    assert (again.path.read_bytes(), again.digest) == (b"b", hashlib.sha256(b"b").hexdigest())


@pytest.mark.parametrize("moment", range(1, 9))
def test_a_folder_link_that_is_flipped_while_staging_gives_one_version(
    tmp_path: Path, store: Store, moment: int
) -> None:
    for version in ("v1", "v2"):
        write(tmp_path / version / "p.py", f"import helper  # {version}")
        write(tmp_path / version / "helper.py", f"# {version}")
    link, new = tmp_path / "current", tmp_path / "new"
    link.symlink_to("v1")
    new.symlink_to("v2")
    breathe = at_call(moment, lambda: os.rename(new, link))
    staged = store.stage(source_of(link / "p.py"), breathe=breathe)
    version = staged.path.read_text()[-2:]
    assert staged.path.with_name("helper.py").read_text() == f"# {version}"


def test_a_module_imported_since_the_first_read_is_staged_too(tmp_path: Path, store: Store) -> None:
    live = write(tmp_path / "p.py", "x = 1")

    def edit() -> None:
        write(tmp_path / "helper.py")
        write(live, "import helper")

    staged = store.stage(source_of(live), breathe=at_call(2, edit))
    assert (staged.files, staged.path.read_text()) == (2, "import helper")


def test_a_source_that_never_rests_is_bad_luck_and_leaves_nothing(
    tmp_path: Path, store: Store
) -> None:
    live = write(tmp_path / "p.py", "x")

    def rewrite() -> None:
        write(live, os.urandom(8))

    with pytest.raises(StageError, match="changed 5 times") as caught:
        store.stage(source_of(live), breathe=rewrite)
    assert caught.value.bad_luck
    assert os.listdir(store.root) == []


def test_giving_up_leaves_nothing(tmp_path: Path, store: Store) -> None:
    def give_up() -> None:
        raise Abandoned

    for moment in (1, 2, 3):
        with pytest.raises(Abandoned):
            store.stage(source_of(write(tmp_path / "p", b"x")), breathe=at_call(moment, give_up))
        assert os.listdir(store.root) == []


def test_a_missing_source_is_no_bad_luck(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StageError, match=r"p\.py does not exist") as caught:
        store.stage(source_of(tmp_path / "p.py"))
    assert not caught.value.bad_luck


def test_a_release_changed_by_hand_is_not_found_and_is_made_again(
    tmp_path: Path, store: Store
) -> None:
    source = source_of(write(tmp_path / "p.py", "good"))
    staged = store.stage(source)
    forge(staged.path, b"evil")
    with pytest.raises(StageError, match="or was changed there"):
        store.find(staged.digest, source)
    assert store.stage(source).path.read_text() == "good"


@pytest.mark.parametrize("harm", ["added", "removed", "changed", "emptied"])
def test_harm_to_a_tree_is_seen_after_a_restart_and_mended(
    tmp_path: Path, store: Store, harm: str
) -> None:
    write(tmp_path / "helper.py", "1")
    source = source_of(write(tmp_path / "p.py", "import helper"))
    staged = store.stage(source)
    helper = staged.root / "helper.py"
    if harm == "added":
        forge(staged.root / "os.py", b"evil")
    elif harm == "removed":
        staged.root.chmod(0o700)
        helper.unlink()
    elif harm == "changed":
        forge(helper, b"2")
    else:
        staged.root.chmod(0o700)
        helper.unlink()
        staged.path.unlink()
    again = Store(store.root)
    with pytest.raises(StageError):
        again.find(staged.digest, source)
    again.stage(source)
    assert sorted(os.listdir(staged.root)) == ["helper.py", "p.py"]
    assert helper.read_text() == "1"


def test_bytecode_left_by_a_worker_is_no_harm(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "helper.py", "1")
    source = source_of(write(tmp_path / "p.py", "import helper"))
    staged = store.stage(source)
    staged.root.chmod(0o700)
    write(staged.root / "__pycache__" / "helper.pyc")
    assert store.find(staged.digest, source).files == 2


def test_a_release_is_found_again_after_a_restart(tmp_path: Path, store: Store) -> None:
    live = write(tmp_path / "p.py", "approved")
    source = source_of(live)
    staged = store.stage(source)
    write(live, "only a candidate")
    found = Store(store.root).find(staged.digest, source)
    assert (found.path.read_text(), found.hash) == ("approved", staged.hash)


def test_what_a_crash_left_half_made_is_removed_at_the_start(tmp_path: Path, store: Store) -> None:
    staged = store.stage(source_of(write(tmp_path / "p.py", "x")))
    sealed = write(store.root / ".tmp-abc" / "deep" / "p.py").parent
    sealed.chmod(0o500)
    Store(store.root)
    assert os.listdir(store.root) == [staged.digest]


def test_retention_deletes_all_but_what_is_in_use_and_the_newest(
    tmp_path: Path, store: Store
) -> None:
    live = tmp_path / "p.py"
    digests = [store.stage(source_of(write(live, str(n)))).digest for n in range(6)]
    stranger = write(store.root / "README", "by hand")
    gone = store.retain(keep={digests[0]}, newest=digests[::-1], keep_releases=2)
    assert set(gone) == set(digests[1:4])
    assert set(os.listdir(store.root)) == {digests[0], digests[4], digests[5], stranger.name}


def test_a_deleted_release_is_made_again(tmp_path: Path, store: Store) -> None:
    source = source_of(write(tmp_path / "p.py", "x"))
    digest = store.stage(source).digest
    store.retain(keep=(), newest=(), keep_releases=0)
    assert store.stage(source).path.read_text() == "x"
    assert store.path(digest).is_dir()


@pytest.mark.parametrize("spare", [0, 1])
def test_too_many_open_files_is_bad_luck(tmp_path: Path, store: Store, spare: int) -> None:
    source = source_of(write(tmp_path / "p.py", "x"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
    try:
        with pytest.raises(StageError, match="too many files open") as caught:
            store.stage(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.bad_luck
    assert os.listdir(store.root) == []


def test_a_full_disk_is_bad_luck_and_leaves_nothing(tmp_path: Path) -> None:
    live = write(tmp_path / "p.bin", os.urandom(MIB))
    out = in_namespace(
        """
        import os, subprocess, sys
        from pathlib import Path
        from changeover.supervisor.source import SourceSet
        from changeover.supervisor.spec import PluginSpec
        from changeover.supervisor.staged import StageError
        from changeover.supervisor.store import Store

        root, live = Path(sys.argv[1]), sys.argv[2]
        root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", root], check=True)
        store = Store(root)
        try:
            store.stage(SourceSet.of(PluginSpec(name="p", source=live)))
        except StageError as error:
            print(error.bad_luck, os.listdir(root), error)
        """,
        tmp_path / "store",
        live,
    )
    assert out.startswith("True [] ")
    assert "No space left on device" in out
    assert "free some space" in out


def test_a_read_only_noexec_store_says_so_and_what_is_in_it_runs_on(
    tmp_path: Path, store: Store
) -> None:
    live = write(tmp_path / "p.py", "x")
    digest = store.stage(source_of(live)).digest
    write(live, "new")
    out = in_namespace(
        """
        import subprocess, sys
        from pathlib import Path
        from changeover.supervisor.source import SourceSet
        from changeover.supervisor.spec import PluginSpec
        from changeover.supervisor.staged import StageError
        from changeover.supervisor.store import Store

        root, live, digest = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
        subprocess.run(["mount", "--bind", root, root], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro,noexec", root], check=True)
        store = Store(root)
        print(*store.notes, sep="\\n")
        source = SourceSet.of(PluginSpec(name="p", source=live))
        print(store.find(digest, source).path.read_text())
        try:
            store.stage(source)
        except StageError as error:
            print(error.bad_luck, error)
        """,
        store.root,
        live,
        digest,
    )
    assert "noexec: Python plugins run, programs and libraries will not" in out
    assert "read-only: the releases in it run, nothing new can be staged" in out
    assert "\nx\nFalse " in out
    assert "set state_dir to one that is not" in out


def test_a_store_that_can_not_be_made_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"the store .* cannot be opened: Not a directory"):
        Store(write(tmp_path / "file") / "store")


def test_a_source_on_another_file_system_is_copied(tmp_path: Path, store: Store) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system here")
    live = other / f"changeover-test-{os.getpid()}"
    try:
        write(live, os.urandom(2 * MIB + 3))
        assert store.stage(source_of(live)).path.read_bytes() == live.read_bytes()
    finally:
        live.unlink()


def test_an_unreadable_source_names_the_file(tmp_path: Path, store: Store) -> None:
    live = write(tmp_path / "private" / "p.py", "x")
    live.parent.chmod(0)
    nobody = 65534
    was = os.geteuid()
    os.seteuid(nobody if was == 0 else was)
    try:
        with pytest.raises(StageError, match=r"Permission denied.*p\.py") as caught:
            store.stage(source_of(live))
    finally:
        os.seteuid(was)
        live.parent.chmod(0o700)
    assert not caught.value.bad_luck
