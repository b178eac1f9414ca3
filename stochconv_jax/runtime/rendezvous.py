"""Waits until all processes of a run have started, before JAX connects them. No JAX here.

JAX 0.12 cannot say who is missing: after its timeout it aborts every process (SIGABRT, which Python cannot catch) with
"DEADLINE_EXCEEDED ... RegisterTask" and no number of a process.

Processes 1, 2, ... connect to process 0 by TCP and each sends a line of JSON with its number. Process 0 answers each
with a line: GO when all have arrived, or else the error message, which all processes then raise.
"""

import contextlib
import itertools
import json
import selectors
import socket
import time
from collections.abc import Iterable

from stochconv_jax.runtime.cluster import Place

GO = "go"
POLL_SECONDS = 0.2  # between two checks for connections, or between two attempts to connect
MESSAGE_SECONDS = 5.0  # from the first byte of a message to its last
MESSAGE_BYTES = 65536  # at most


class RendezvousError(ConnectionError):
    """An error for processes that cannot start together; the message says which process is missing or wrong."""


def meet(place: Place, timeout: float) -> None:
    """Returns when all processes have reached the coordinator's address, in all of them at about the same time.

    Raises RendezvousError in every process that is there if another one is missing `timeout` seconds after process 0
    began to wait, or if process 0 cannot be reached for `timeout` seconds.
    """
    if place.process_id == 0:
        _wait_for_others(place, timeout)
    else:
        _report_to_process_0(place, timeout)


def _split(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _wait_for_others(place: Place, timeout: float) -> None:
    """Waits in process 0 for all others, then sends each of them GO or the error message."""
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        newcomers = stack.enter_context(_Newcomers(_listen(place)))
        arrived: dict[int, socket.socket] = {}
        try:
            while len(arrived) < place.num_processes - 1:
                _remove_disconnected(arrived)
                if time.monotonic() > deadline:
                    raise RendezvousError(_missing_message(place, arrived, timeout))
                for connection, line in newcomers.wait(POLL_SECONDS):
                    _register(place, arrived, stack.enter_context(connection), line)
        except RendezvousError as error:
            _send_to_all(arrived, str(error))
            raise
        _send_to_all(arrived, GO)
        end = time.monotonic() + MESSAGE_SECONDS
        # Waits until the other side has closed each connection: then the port is free for JAX at once.
        for connection in arrived.values():
            with contextlib.suppress(OSError):
                connection.settimeout(max(end - time.monotonic(), 0.0))
                connection.recv(1)


def _listen(place: Place) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(
            ("", _split(place.coordinator)[1]), family=family, dualstack_ipv6=both, backlog=place.num_processes
        )
    except OSError as error:
        raise RendezvousError(
            f"process 0 cannot listen at {place.coordinator} ({error.strerror}): end the program that uses this port, "
            "or choose another port"
        ) from error
    return server


class _Newcomers:
    """Connections to `server` that have not yet sent the line with their process number.

    Each has MESSAGE_SECONDS seconds to send its line, and none is waited for in turn: a foreign program that sends
    nothing, or a byte now and then, delays nobody.
    """

    def __init__(self, server: socket.socket):
        server.setblocking(False)
        self._server, self._selector = server, selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._received: dict[socket.socket, bytes] = {}
        self._deadlines: dict[socket.socket, float] = {}

    def __enter__(self) -> "_Newcomers":
        return self

    def __exit__(self, *_) -> None:
        for connection in list(self._received):
            self._release(connection).close()
        self._selector.close()
        self._server.close()

    def wait(self, seconds: float) -> list[tuple[socket.socket, bytes]]:
        """Waits up to `seconds` seconds, and returns the connections that have sent their line, with the line."""
        lines = []
        for key, _ in self._selector.select(seconds):
            connection = key.data
            if connection is None:
                self._accept()
            elif self._read(connection):
                lines.append((connection, self._received[connection]))
                self._release(connection)
        for connection in [c for c, deadline in self._deadlines.items() if time.monotonic() > deadline]:
            self._release(connection).close()
        return lines

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, data=connection)
            self._received[connection], self._deadlines[connection] = b"", time.monotonic() + MESSAGE_SECONDS

    def _read(self, connection: socket.socket) -> bool:
        """Reads from `connection` and returns whether its line is complete.

        Closes a connection that the other side has closed, or that has sent more than MESSAGE_BYTES bytes without a
        line.
        """
        try:
            part = connection.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        self._received[connection] += part
        if b"\n" in self._received[connection]:
            return True
        if not part or len(self._received[connection]) > MESSAGE_BYTES:
            self._release(connection).close()
        return False

    def _release(self, connection: socket.socket) -> socket.socket:
        self._selector.unregister(connection)
        del self._received[connection], self._deadlines[connection]
        return connection


def _register(place: Place, arrived: dict[int, socket.socket], connection: socket.socket, line: bytes) -> None:
    """Adds the process that has sent `line` to `arrived`. Closes a connection whose line is not from such a process.

    Raises RendezvousError if the number of processes or the process's own number does not fit.
    """
    try:
        message = json.loads(line.partition(b"\n")[0])
        number, count = int(message["process_id"]), int(message["num_processes"])
        origin = connection.getpeername()[0]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        connection.close()
        return
    connection.settimeout(MESSAGE_SECONDS)
    who = f"process {number} of {count} came to {place.coordinator} from {origin}"
    taken = number in arrived or not 0 < number < place.num_processes
    arrived[number if not taken else -1 - len(arrived)] = connection  # so that it receives the error message too
    if count != place.num_processes:
        raise RendezvousError(
            f"{who}, but process 0 was started with num_processes={place.num_processes}: give all the same number"
        )
    if taken:
        raise RendezvousError(f"{who}, but that number is taken: give each process a process_id of its own")


def _remove_disconnected(arrived: dict[int, socket.socket]) -> None:
    """Removes processes whose connection has ended. They may be started again and arrive again."""
    for number, connection in list(arrived.items()):
        connection.setblocking(False)
        try:
            disconnected = not connection.recv(1)
        except BlockingIOError:
            disconnected = False
        except OSError:
            disconnected = True
        connection.settimeout(MESSAGE_SECONDS)
        if disconnected:
            arrived.pop(number).close()


def _missing_message(place: Place, arrived: dict[int, socket.socket], timeout: float) -> str:
    missing = [number for number in range(1, place.num_processes) if number not in arrived]
    who = f"processes {ranges(missing)} of" if len(missing) > 1 else f"process {missing[0]} of"
    return (
        f"{who} {place.num_processes} {'have' if len(missing) > 1 else 'has'} not come to {place.coordinator} within "
        f"{timeout:g} s ({ranges([0, *arrived])} there): see why in its log, or raise "
        "`timeout_seconds`"
    )


def ranges(numbers: Iterable[int]) -> str:
    """Returns the sorted numbers as text with ranges, such as '0, 4 to 7, 9'."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])]
    return ", ".join(
        f"{run[0][1]} to {run[-1][1]}" if len(run) > 2 else ", ".join(str(number) for _, number in run) for run in runs
    )


def _send_to_all(arrived: dict[int, socket.socket], message: str) -> None:
    for connection in arrived.values():
        with contextlib.suppress(OSError):
            connection.sendall(f"{message}\n".encode())


def _report_to_process_0(place: Place, timeout: float) -> None:
    """Connects to process 0, again and again until it is there, and waits for its answer."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = _ask_process_0(place, timeout)
        except OSError as error:
            if time.monotonic() > deadline:
                raise RendezvousError(
                    f"process 0 of {place.num_processes} has not come to {place.coordinator} within {timeout:g} s "
                    f"({error}), says process {place.process_id}: see why in the log of process 0, and check that the "
                    "address is that of its host"
                ) from error
            time.sleep(POLL_SECONDS)
            continue
        if answer != GO:
            raise RendezvousError(answer)
        return


def _ask_process_0(place: Place, timeout: float) -> str:
    """Returns the answer of process 0. Raises OSError if it is not there or ends, or if another program answers."""
    message = {"process_id": place.process_id, "num_processes": place.num_processes}
    with socket.create_connection(_split(place.coordinator), timeout=MESSAGE_SECONDS) as connection:
        # TCP can connect a socket to itself if nothing listens at an ephemeral port.
        if connection.getsockname() == connection.getpeername():
            raise ConnectionRefusedError("nothing listens there")
        connection.sendall(f"{json.dumps(message)}\n".encode())
        answer = _receive_line(connection, timeout + MESSAGE_SECONDS)  # process 0 may have begun to wait only now
    if answer != f"{GO}\n" and not answer.startswith("process"):
        raise ConnectionAbortedError("it closed the connection" if not answer else "another program answers")
    return answer.strip()


def _receive_line(connection: socket.socket, seconds: float) -> str:
    """Returns a line, or the part of it that came before the other side closed the connection.

    Raises TimeoutError if this takes longer than `seconds` seconds in all.
    """
    end, received = time.monotonic() + seconds, b""
    while b"\n" not in received and len(received) <= MESSAGE_BYTES:
        if (left := end - time.monotonic()) <= 0:
            raise TimeoutError("no answer")
        connection.settimeout(left)
        if not (part := connection.recv(MESSAGE_BYTES)):
            break
        received += part
    return received.decode(errors="replace")
