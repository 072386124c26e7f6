"""One local process: what is signalled, what is said when it fails."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from compose import process
from compose.errors import ServerFailedError
from compose.ports import free_port
from compose.process import Launch, LocalServer, Running, explain
from tests.support.eventually import eventually

SERVER = """
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else lambda *_: sys.exit(7))
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("at your service", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"+PONG\\r\\n")
    connection.close()
"""


def launch(tmp_path: Path, *argv: str, port: int | None = None) -> Launch:
    """Describe a tiny server that answers as Redis does, or any other program."""
    port = port or free_port()
    return Launch(
        name="redis",
        argv=argv or (sys.executable, "-c", SERVER, str(port)),
        directory=str(tmp_path),
        address=f"redis://127.0.0.1:{port}/0",
        port=port,
        probe="redis",
        ready_line="at your service" if not argv else None,
    )


def test_start_waits_until_it_answers_and_stop_until_it_is_gone(tmp_path: Path) -> None:
    """Between start and stop the process is there and answers; afterwards it is not."""
    server = LocalServer(launch(tmp_path))
    server.start()
    pid = server.pid
    assert pid is not None
    assert server.answers()
    server.stop()
    assert server.pid is None
    assert not Path(f"/proc/{pid}").exists()


def test_another_process_picks_the_server_up_from_its_record(tmp_path: Path) -> None:
    """What `holdfast stack down` does to a server that an earlier command started."""
    server = LocalServer(launch(tmp_path))
    server.start()
    found = LocalServer.attach(tmp_path)
    assert found is not None
    assert found.pid == server.pid
    assert found.answers()
    found.stop()
    assert not server.alive


@pytest.mark.parametrize("changed", ["start_ticks", "boot_id"])
def test_a_recycled_process_id_is_left_alone(tmp_path: Path, changed: str) -> None:
    """A live process with the recorded id but another start, or of an earlier boot, is not ours."""
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        server = LocalServer(launch(tmp_path))
        server.start()
        server.stop()
        record = msgspec.json.decode((tmp_path / "server.json").read_bytes(), type=Running)
        ticks = Path(f"/proc/{bystander.pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[19]
        stale = msgspec.structs.replace(record, pid=bystander.pid, start_ticks=int(ticks))
        found = LocalServer(record.launch, stale)
        assert found.pid == bystander.pid  # So far it could be ours; now it cannot.
        change: dict[str, int | str] = {"start_ticks": int(ticks) + 1, "boot_id": "another"}
        stale = msgspec.structs.replace(stale, **{changed: change[changed]})
        found = LocalServer(record.launch, stale)
        found.stop()
        found.kill()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_is_gone_has_been_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its main thread was gone before the process could be waited for."""
    server = LocalServer(launch(tmp_path))
    server.start()
    child = process._children[server.pid or 0]
    monkeypatch.setattr(child, "poll", lambda: None)  # As while other threads are still there.
    server.kill()
    assert not server.alive
    assert child.returncode == -signal.SIGKILL
    assert child.pid not in process._children


def test_a_server_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    """Stopping is bounded: SIGKILL follows SIGTERM."""
    base = launch(tmp_path)
    server = LocalServer(msgspec.structs.replace(base, argv=(*base.argv, "stubborn")))
    server.start()
    server.stop(within_s=0.2)
    assert not server.alive


def test_a_paused_server_is_alive_and_can_be_stopped(tmp_path: Path) -> None:
    """A pause is not a death, and a paused process still takes the request to stop."""
    server = LocalServer(launch(tmp_path))
    server.start()
    pid = server.pid
    server.pause()
    stat = Path(f"/proc/{pid}/stat")
    eventually(lambda: stat.read_text("utf-8").rsplit(")", 1)[1].split()[0] == "T")
    assert server.alive
    server.resume()
    assert server.answers()
    server.pause()
    server.stop()
    assert server.pid is None
    assert server._exit_code == 7  # It took the request and ended by itself.


def test_restart_after_a_kill_keeps_the_port(tmp_path: Path) -> None:
    """Clients find the server again where it was."""
    server = LocalServer(launch(tmp_path))
    server.start()
    first = server.pid
    server.kill()
    assert not server.answers()
    server.restart()
    assert server.pid != first
    assert server.answers()
    server.stop()


def test_a_process_that_ends_shows_its_log_and_why(tmp_path: Path) -> None:
    """The message holds exit code, reason, remedy and the last lines of this run's log only."""
    (tmp_path / "redis.log").write_text("from an earlier run\n", encoding="utf-8")
    server = LocalServer(
        launch(tmp_path, "sh", "-c", "echo 'bind: Address already in use'; exit 3")
    )
    with pytest.raises(ServerFailedError) as failure:
        server.start()
    said = str(failure.value)
    assert "exit code 3" in said
    assert "another program took its port" in said
    assert "bind: Address already in use" in said
    assert "earlier run" not in said
    assert failure.value.port_taken
    assert not server.alive


def test_a_process_that_stays_silent_is_ended_and_reported(tmp_path: Path) -> None:
    """A start is bounded, and leaves nothing behind."""
    server = LocalServer(launch(tmp_path, "sleep", "60"))
    with pytest.raises(ServerFailedError, match="did not answer on port"):
        server.start(within_s=0.3)
    assert not server.alive


def test_the_process_has_a_session_of_its_own(tmp_path: Path) -> None:
    """So a Ctrl-C in the terminal, which signals the whole session, passes it by."""
    server = LocalServer(launch(tmp_path))
    server.start()
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid
    server.stop()


def test_a_killed_process_names_the_signal(tmp_path: Path) -> None:
    """Out of memory shows as signal 9, and that is what a person needs to read."""
    server = LocalServer(launch(tmp_path, "sh", "-c", "kill -9 $$"))
    with pytest.raises(ServerFailedError, match=f"signal {int(signal.SIGKILL)}"):
        server.start()


def test_an_unknown_failure_still_says_what_to_do() -> None:
    """No reason is invented, but the remedy points at the log."""
    reason, remedy = explain("something nobody foresaw")
    assert reason == ""
    assert "log" in remedy
