"""Each way an embedded engine can fail or be failed, on real processes and files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway import engine as module
from gateway import engine_binary
from gateway.engine import Engine
from gateway.engine_binary import BUNDLED, find_binary
from gateway.problems import EngineError

ROOT = Path(__file__).parents[2]

START = """
import sys
from pathlib import Path
from gateway.engine import Engine
engine = Engine(Path(sys.argv[1]))
print(engine.ensure(), engine.status().pid, engine.status().started, flush=True)
sys.stdin.read()
"""


def client(url: str) -> Redis:
    return Redis.from_url(url, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def starter(data: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", START, str(data)], stdin=pipe, stdout=pipe, text=True, cwd=ROOT)


def kill(engine: Engine) -> None:
    os.kill(engine.status().pid, signal.SIGKILL)
    until(lambda: not engine.home.lives())


def until(condition: Callable[[], bool], limit: float = 20.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def journal(data: Path) -> Path:
    return max((data / "engine" / "appendonlydir").glob("*.incr.aof"))


# Starting, attaching, ending


def test_what_was_written_is_there_after_a_stop_and_a_start(data):
    engine = Engine(data)
    with client(engine.ensure()) as store:
        store.set("kept", "1")

    assert engine.stop()

    with client(engine.ensure()) as store:
        assert store.get("kept") == "1"


def test_it_syncs_before_it_acknowledges_and_listens_on_its_socket_alone(data):
    with client(Engine(data).ensure()) as store:
        said = store.config_get("*")

    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "port": "0",
    }
    assert {name: said[name] for name in wanted} == wanted


def test_nobody_else_can_read_its_files(data):
    url = Engine(data).ensure()
    with client(url) as store:
        store.set("secret", "1")

    found = [data, *data.rglob("*"), Path(url.removeprefix("unix://"))]

    assert {path for path in found if path.stat().st_mode & 0o077} == set()
    assert any(path.name.endswith(".incr.aof") for path in found)


def test_a_second_gateway_attaches_and_neither_ends_it_under_the_other(data):
    first, second = Engine(data), Engine(data)

    assert first.ensure() == second.ensure()

    assert (first.status().started, second.status().started) == (True, False)
    assert first.status().pid == second.status().pid
    assert not first.stop()
    assert first.home.lives()
    assert not second.stop()
    assert first.home.lives()


def test_a_clean_end_ends_the_engine_it_started(data):
    engine = Engine(data)
    engine.ensure()

    assert engine.stop()

    assert not engine.home.lives()
    assert engine.status().why == "stopped"


def test_four_starts_at_once_make_one_engine(data):
    starters = [starter(data) for _ in range(4)]
    try:
        told = [process.stdout.readline().split() for process in starters]
    finally:
        for process in starters:
            process.kill()
            process.communicate()

    assert len({(url, pid) for url, pid, _ in told}) == 1
    assert sorted(started for *_, started in told) == ["False", "False", "False", "True"]


def test_a_killed_gateway_leaves_the_engine_to_the_next(data):
    process = starter(data)
    url, pid, _ = process.stdout.readline().split()
    with client(url) as store:
        store.set("kept", "1")

    process.kill()
    process.communicate()
    engine = Engine(data)

    with client(engine.ensure()) as store:
        assert store.get("kept") == "1"
    assert engine.status().pid == int(pid)
    assert not engine.status().started


def test_an_attaching_gateway_raises_the_durability_and_never_lowers_it(data):
    with client(Engine(data, fsync="everysec").ensure()) as store:
        Engine(data, fsync="always").ensure()
        assert store.config_get("appendfsync")["appendfsync"] == "always"

        Engine(data, fsync="everysec").ensure()
        assert store.config_get("appendfsync")["appendfsync"] == "always"


# Death


def test_a_killed_engine_loses_no_acknowledged_write_under_load(data):
    engine = Engine(data)
    url = engine.ensure()
    acknowledged = [0] * 4
    done = threading.Event()

    def write(writer: int) -> None:
        while not done.is_set():
            try:
                with client(url) as store:
                    while not done.is_set():
                        store.set(f"{writer}:{acknowledged[writer] + 1}", "x")
                        acknowledged[writer] += 1
            except (RedisError, OSError):
                time.sleep(0.01)

    async def kill_thrice() -> None:
        watch = asyncio.create_task(engine.watch())
        for restarts in (1, 2, 3):
            before = sum(acknowledged)
            await asyncio.to_thread(until, lambda before=before: sum(acknowledged) > before + 200)
            os.kill(engine.status().pid, signal.SIGKILL)
            await asyncio.to_thread(until, lambda restarts=restarts: engine.status().restarts == restarts)
        watch.cancel()

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in writers:
        thread.start()
    try:
        asyncio.run(kill_thrice())
    finally:
        done.set()
        for thread in writers:
            thread.join()

    with client(engine.ensure()) as store:
        lost = [key for n in range(4) for i in range(acknowledged[n]) if not store.exists(key := f"{n}:{i + 1}")]
    assert sum(acknowledged) > 600
    assert lost == []


def test_a_watched_engine_is_restarted_and_the_status_says_so(data):
    engine = Engine(data)
    engine.ensure()
    first = engine.status().pid

    async def live() -> None:
        watch = asyncio.create_task(engine.watch())
        os.kill(first, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: engine.status().restarts == 1)
        watch.cancel()

    asyncio.run(live())

    assert engine.status().alive
    assert engine.status().pid != first


def test_an_engine_that_lost_its_socket_is_replaced_and_keeps_what_it_had(data):
    engine = Engine(data)
    url = engine.ensure()
    with client(url) as store:
        store.set("kept", "1")

    Path(url.removeprefix("unix://")).unlink()

    with client(Engine(data).ensure()) as store:
        assert store.get("kept") == "1"


def test_an_engine_that_hangs_is_named_and_not_doubled(data, monkeypatch):
    monkeypatch.setattr(module, "UNANSWERED", 0.1)
    monkeypatch.setattr(module, "PROBE", 0.1)
    engine = Engine(data)
    engine.ensure()
    pid = engine.status().pid
    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(EngineError, match=f"does not answer: end it with kill -9 {pid}"):
        Engine(data).ensure()


# Disk and journal


def test_a_full_disk_is_named_and_nothing_acknowledged_is_lost_when_there_is_room_again(small_disk):
    (small_disk / "filler").write_bytes(bytes(2 * module.ROOM))
    engine = Engine(small_disk)
    store = client(engine.ensure())
    acknowledged = 0

    async def fill() -> None:
        nonlocal acknowledged
        watch = asyncio.create_task(engine.watch())
        with pytest.raises(RedisError):
            while True:
                store.set(f"key:{acknowledged}", "x" * 20_000)
                acknowledged += 1
        await asyncio.to_thread(until, lambda: "disk is full" in engine.status().why)
        assert not engine.status().alive
        with pytest.raises(EngineError, match="the disk is full"):
            Engine(small_disk).ensure()
        (small_disk / "filler").unlink()
        await asyncio.to_thread(until, lambda: engine.status().alive)
        watch.cancel()

    asyncio.run(fill())

    assert acknowledged > 50
    assert store.exists(*(f"key:{n}" for n in range(acknowledged))) == acknowledged
    store.close()


def filled(data: Path, keys: int) -> Engine:
    """An engine that was killed after `keys` acknowledged writes."""
    engine = Engine(data)
    with client(engine.ensure()) as store:
        for n in range(keys):
            store.set(f"key:{n}", "x" * 50)
    kill(engine)
    return engine


def test_a_journal_torn_at_its_end_is_loaded_up_to_there_and_it_is_said(data):
    engine = filled(data, 100)
    os.truncate(journal(data), journal(data).stat().st_size - 7)

    with client(engine.ensure()) as store:
        assert store.dbsize() == 99

    assert any("every whole entry was loaded" in note for note in engine.status().notes)


def test_a_journal_damaged_in_its_middle_is_refused_until_it_is_repaired(data):
    engine = filled(data, 100)
    with journal(data).open("r+b") as file:
        file.seek(journal(data).stat().st_size // 2)
        file.write(bytes(64))
    damaged = journal(data).read_bytes()

    with pytest.raises(EngineError, match="gimbal doctor --repair"):
        engine.ensure()
    assert journal(data).read_bytes() == damaged

    said = engine.repair()

    with client(engine.ensure()) as store:
        assert 40 <= store.dbsize() <= 50
        assert store.exists(*(f"key:{n}" for n in range(40))) == 40
    kept = data / "engine" / "appendonlydir.damaged-1"
    assert str(kept) in said
    assert (kept / journal(data).name).read_bytes() == damaged


def test_a_healthy_running_journal_is_not_repaired(data):
    engine = Engine(data)
    engine.ensure()

    with pytest.raises(EngineError, match="nothing to repair"):
        engine.repair()


# Places


def test_a_long_data_directory_does_not_lengthen_the_socket(data):
    deep = data.joinpath(*["directory-with-a-name"] * 12)

    url = Engine(deep).ensure()

    assert len(str(deep)) > 200
    assert len(url) < 110
    with client(url) as store:
        assert store.ping()


def test_a_long_runtime_directory_is_passed_over(data, monkeypatch):
    deep = data.joinpath(*["directory-with-a-name"] * 12)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setattr("tempfile.tempdir", str(data.parent))

    url = Engine(data).ensure()

    assert url.startswith(f"unix://{data.parent}/gimbal-{os.getuid()}/")


def test_a_stale_socket_file_is_no_hindrance(data):
    engine = Engine(data)
    path = Path(engine.ensure().removeprefix("unix://"))
    kill(engine)
    assert path.exists()

    with client(Engine(data).ensure()) as store:
        assert store.ping()


def test_a_gateway_of_another_environment_finds_the_same_engine(data, monkeypatch, tmp_path):
    first = Engine(data)
    first.ensure()

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    second = Engine(data)
    second.ensure()

    assert second.status().pid == first.status().pid


def test_a_data_directory_moved_under_a_running_engine_is_found_again(data):
    first = Engine(data)
    first.ensure()

    moved = Engine(data.rename(data.with_name("moved")))
    moved.ensure()

    assert moved.status().pid == first.status().pid


def test_a_copied_data_directory_gets_an_engine_of_its_own(data):
    first = Engine(data)
    first.ensure()
    subprocess.run(["cp", "-r", data, data.with_name("copy")], check=True)

    copy = Engine(data.with_name("copy"))
    copy.ensure()

    assert copy.status().pid != first.status().pid


def test_a_stranger_on_the_socket_is_named_and_left_alone(data):
    engine = Engine(data)
    path = Path(engine.ensure().removeprefix("unix://"))
    engine.stop()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()
        threading.Thread(target=greet, args=(stranger,), daemon=True).start()

        with pytest.raises(EngineError, match=f"another program listens on {path}"):
            engine.ensure()


def greet(stranger: socket.socket) -> None:
    while True:
        try:
            line, _ = stranger.accept()
        except OSError:
            return
        with line, contextlib.suppress(OSError):
            line.sendall(b"220 mail.example.com ESMTP\r\n")
            line.recv(100)


def test_a_socket_directory_that_is_a_link_is_refused(data, tmp_path):
    data.parent.joinpath("gimbal").symlink_to(tmp_path)

    with pytest.raises(EngineError, match=r"socket directory .* is a link.*: set XDG_RUNTIME_DIR"):
        Engine(data).ensure()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to somebody else")
def test_a_directory_of_somebody_else_is_refused(data):
    (data / "engine").mkdir(parents=True)
    os.chown(data / "engine", 12345, 12345)

    with pytest.raises(EngineError, match="belongs to user 12345"):
        Engine(data).ensure()


def test_a_directory_open_to_others_is_closed(data):
    (data / "engine").mkdir(parents=True)
    (data / "engine").chmod(0o777)

    Engine(data).ensure()

    assert (data / "engine").stat().st_mode & 0o777 == 0o700


def test_a_file_where_the_directory_should_be_is_named(data):
    data.write_text("in the way")

    with pytest.raises(EngineError, match=r"data directory .* cannot be used"):
        Engine(data).ensure()


# Which engine


@pytest.fixture
def unbundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without the bundled engine, whose PATH is the directory returned."""
    monkeypatch.setattr(engine_binary, "BUNDLED", "not_installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_bundled_engine_comes_first():
    assert BUNDLED in find_binary().path


def test_an_engine_on_the_path_stands_in(data, unbundled, monkeypatch):
    monkeypatch.setattr(engine_binary, "BUNDLED", BUNDLED)
    (unbundled / "redis-server").symlink_to(find_binary().path)
    monkeypatch.setattr(engine_binary, "BUNDLED", "not_installed")

    assert find_binary().path == str(unbundled / "redis-server")
    with client(Engine(data).ensure()) as store:
        assert store.ping()


def test_no_engine_at_all_names_the_three_cures(data, unbundled):
    with pytest.raises(EngineError, match=r"pip install .*embedded.* install Valkey or Redis 6.2 .* --store URL"):
        Engine(data).ensure()


def test_an_engine_too_old_for_our_scripts_is_not_started(unbundled):
    old = unbundled / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc bits=64 build=1'\n")
    old.chmod(0o755)

    with pytest.raises(EngineError, match=r"is redis 6\.0\.16, older than 6\.2"):
        find_binary()


def test_an_older_engine_does_not_take_over_silently(data):
    engine = Engine(data)
    engine.ensure()
    engine.stop()
    record = data / "engine" / "engine.json"
    record.write_text(record.read_text().replace('"version": "', '"version": "9'))

    with pytest.raises(EngineError, match=r"install the newer one, or remove .*engine.json"):
        engine.ensure()

    record.unlink()
    with client(engine.ensure()) as store:
        assert store.ping()


def test_an_engine_that_dies_at_its_start_is_quoted(data, unbundled):
    broken = unbundled / "valkey-server"
    broken.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 'Valkey server v=9.1.2 sha=0' && exit\necho 'FATAL: no'; exit 1\n"
    )
    broken.chmod(0o755)

    with pytest.raises(EngineError, match="did not start: FATAL: no"):
        Engine(data).ensure()
