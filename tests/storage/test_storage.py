import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from polyana.errors import Busy, Damaged
from polyana.storage import (
    ArtifactStore,
    ContentDigests,
    Making,
    Step,
    append_lines,
    building,
    changes,
    disk_used,
    is_held,
    locked,
    read_json,
    retry_when_full,
    show_bytes,
    wait_for_room,
    write_file,
    write_json,
)


def test_a_directory_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "thing"

    def fail_half_way():
        with building(target) as directory:
            (directory / "half").write_text("x")
            assert not target.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
    with building(target) as directory:
        (directory / "a").write_text("x")
    assert [path.name for path in target.iterdir()] == ["a"]


def test_a_file_is_replaced_at_once_and_json_damage_is_named(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    path.write_text('{"a": ')
    with pytest.raises(Damaged, match=r"a\.json is damaged"):
        read_json(path)


def test_a_lock_is_held_by_one_process_and_freed_when_it_is_killed(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom polyana.storage import locked\n"
        "with locked(Path(sys.argv[1]), 'x'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert is_held(path)
        with pytest.raises(Busy, match=f"the run is taken: process {process.pid} on"), locked(path, "the run is taken"):
            pass
        process.kill()
        process.wait()
        assert not is_held(path)
        with locked(path, "now it is free"):
            assert (tmp_path / "lock.holder").exists()


@pytest.fixture
def store(tmp_path):
    said = []
    store = ArtifactStore(tmp_path, lambda name, text: said.append(f"{name}: {text}"))
    store.said = said
    return store


def step(settings, content="made", used_by="demo/words"):
    making = Making("tokenizer", 1, settings, {"corpus": "abc"})
    return Step(used_by, making, lambda directory: (directory / "file").write_text(content) and None)


def test_what_changed_in_a_list_of_settings_is_named_alone():
    old = {"data": [{"path": "a", "weight": 1.0}, {"path": "b"}], "lr": None}
    assert changes(old, {"data": [{"path": "a", "weight": 2.0}, {"path": "b"}], "lr": None}) == [
        "data.0.weight was 1.0, is 2.0"
    ]
    assert changes(old, {"data": [{"path": "a"}], "lr": 0.1}) == ["data had 2 entries, has 1", "lr was null, is 0.1"]


def test_what_is_finished_is_found_again_and_what_changed_is_said(store):
    first = store.get(step({"vocab_size": 10, "inner": {"a": 1}}))
    assert store.get(step({"inner": {"a": 1}, "vocab_size": 10}, "not used")).directory == first.directory
    assert (first.directory / "file").read_text() == "made"
    second = store.get(step({"vocab_size": 20, "inner": {"a": 2}}))
    assert second.directory != first.directory
    assert store.said == ["words: not made yet", "words: vocab_size was 10, is 20; inner.a was 1, is 2"]


def test_a_damaged_file_is_named_and_made_again(store, tmp_path):
    made = store.get(step({}))
    (made.directory / "file").write_text("mode")  # the same length
    fresh = ArtifactStore(tmp_path, store._say)
    again = fresh.get(step({}, "made again"))
    assert (again.directory / "file").read_text() == "made again"
    assert "file is damaged (its checksum" in store.said[-1]


def test_what_fails_half_way_is_not_mistaken_for_finished(store):
    def fail(directory):
        (directory / "file").write_text("half")
        raise RuntimeError

    broken = Step("demo/words", step({}).making, fail)
    with pytest.raises(RuntimeError):
        store.get(broken)
    assert store.find(broken.making) is None
    assert (store.get(step({})).directory / "file").read_text() == "made"


def test_digests_follow_the_content_and_forget_nothing_else(tmp_path):
    path, index = tmp_path / "a.txt", tmp_path / "home" / "digests.json"
    path.write_text("one")
    old = time.time() - 100
    os.utime(path, (old, old))
    digests = ContentDigests(index)
    one = digests.of(path)
    digests.save()
    assert ContentDigests(index).of(path) == one
    path.write_text("two")  # the same size; another time
    assert ContentDigests(index).of(path) != one
    index.write_text("broken")
    assert ContentDigests(index).of(path) != one


def test_a_file_changed_just_now_is_not_remembered(tmp_path):
    """Its next change could fall into the same tick of the clock."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    stamp = path.stat()
    digests = ContentDigests(tmp_path / "digests.json")
    one = digests.of(path)
    path.write_text("two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert digests.of(path) != one


def test_hard_links_count_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    assert disk_used(tmp_path) == 1000
    assert show_bytes(1000) == "1.0 kB"
    assert show_bytes(123_456_789) == "123 MB"


def test_a_full_disk_is_waited_for(small_disk, monkeypatch):
    monkeypatch.setattr("polyana.storage.disk._PAUSE", 0.05)
    (small_disk / "filler").write_bytes(bytes(3_000_000))
    said: list[str] = []
    threading.Timer(0.3, (small_disk / "filler").unlink).start()
    wait_for_room(small_disk, 2_000_000, said.append)
    assert "2.0 MB are needed" in said[0]
    assert said[-1] == "there is room again: going on"
    assert len(said) == 2


def test_a_disk_that_fills_up_while_writing_is_waited_for(small_disk, monkeypatch):
    monkeypatch.setattr("polyana.storage.disk._PAUSE", 0.05)
    (small_disk / "filler").write_bytes(bytes(3_000_000))
    (small_disk / "precious").write_text("precious")
    said: list[str] = []
    threading.Timer(0.3, (small_disk / "filler").unlink).start()
    retry_when_full(lambda: write_file(small_disk / "precious", bytes(2_000_000)), small_disk, said.append)
    assert (small_disk / "precious").stat().st_size == 2_000_000
    assert "Nothing already saved is lost" in said[0]
    assert said[1:] == ["there is room again: going on"]  # each once, however often it was tried
    assert sorted(path.name for path in small_disk.iterdir()) == ["precious"]


def test_of_several_that_wait_for_room_one_says_so(tmp_path, monkeypatch):
    """What makes a save and what writes metrics meet the same full disk."""
    monkeypatch.setattr("polyana.storage.disk._PAUSE", 0.01)
    said, tried, room = list[str](), [0, 0], threading.Event()

    def writing(number):
        def write():
            tried[number] += 1
            if not room.is_set():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return number

        return write

    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(retry_when_full, writing(number), tmp_path, said.append) for number in range(2)]
        deadline = time.monotonic() + 60
        while min(tried) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        room.set()
        assert [each.result() for each in done] == [0, 1]
    assert [text[:6] for text in said] == ["paused", "there "]


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    def fail():
        raise OSError(errno.EACCES, "no")

    with pytest.raises(OSError, match="no"):
        retry_when_full(fail, tmp_path, print)


def test_lines_are_put_behind_others_and_a_torn_one_stays_by_itself(tmp_path):
    path = tmp_path / "new" / "lines.jsonl"
    append_lines(path, ["one", "two \udcff"])  # half a surrogate pair
    append_lines(path, [])
    assert path.read_text() == "one\ntwo ?\n"
    with path.open("a") as stream:
        stream.write("thr")
    append_lines(path, iter(["four"]))
    assert path.read_text().split("\n") == ["one", "two ?", "thr", "four", ""]
