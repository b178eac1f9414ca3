"""The processes meet before JAX connects them, for it ends a process without a word of who is missing. No JAX here."""

import contextlib
import itertools
import json
import selectors
import socket
import time
from collections.abc import Iterable

from stochconv_jax.runtime.cluster import Place

GO = "go"
PAUSE = 0.2  # seconds between two looks
ANSWER = 5.0  # seconds that a message may be under way, from its first byte to its last
LONGEST = 65536  # bytes of a message


class NotAllHere(ConnectionError):
    """The processes cannot begin; the message names who is missing, or what is wrong."""


def meet(place: Place, timeout: float) -> None:
    """Returns, in every process at about the same time, when all have come to the coordinator's address.

    NotAllHere, in every process that is there, if one is missing `timeout` seconds after process 0 began to wait, or if
    process 0 itself has not come after as long.
    """
    if place.process_id == 0:
        _gather(place, timeout)
    else:
        _report(place, timeout)


def _split(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _gather(place: Place, timeout: float) -> None:
    """Process 0: waits for the others, then tells each of them to go on, or why not."""
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        arrivals = stack.enter_context(_Arrivals(_listen(place)))
        here: dict[int, socket.socket] = {}
        try:
            while len(here) < place.num_processes - 1:
                _forget_gone(here)
                if time.monotonic() > deadline:
                    raise NotAllHere(_who_is_missing(place, here, timeout))
                for connection, line in arrivals.wait(PAUSE):
                    _register(place, here, stack.enter_context(connection), line)
        except NotAllHere as error:
            _tell(here, str(error))
            raise
        _tell(here, GO)
        end = time.monotonic() + ANSWER
        for connection in here.values():  # closed there first, so that the port is free for JAX at once
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
        raise NotAllHere(
            f"process 0 cannot listen at {place.coordinator} ({error.strerror}): end what does, or choose another port"
        ) from error
    return server


class _Arrivals:
    """Those who come to `server` and have not said who they are. Each has ANSWER seconds for its line in all, and none
    waits for another: a stranger that says nothing, or a byte now and then, holds nobody up.
    """

    def __init__(self, server: socket.socket):
        server.setblocking(False)
        self._server, self._selector = server, selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._said: dict[socket.socket, bytes] = {}
        self._ends: dict[socket.socket, float] = {}

    def __enter__(self) -> "_Arrivals":
        return self

    def __exit__(self, *_) -> None:
        for connection in list(self._said):
            self._let_go(connection).close()
        self._selector.close()
        self._server.close()

    def wait(self, seconds: float) -> list[tuple[socket.socket, bytes]]:
        """The connections that have said a line by now, with it; after `seconds` at most where nothing comes."""
        ready, lines = [key.fileobj for key, _ in self._selector.select(seconds)], []
        for connection in ready:
            if connection is self._server:
                self._accept()
            elif self._read(connection):
                lines.append((connection, self._said[connection]))
                self._let_go(connection)
        for connection in [one for one, end in self._ends.items() if time.monotonic() > end]:
            self._let_go(connection).close()
        return lines

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)
            self._said[connection], self._ends[connection] = b"", time.monotonic() + ANSWER

    def _read(self, connection: socket.socket) -> bool:
        """Whether the line is whole. Who goes away before, or says too much, is let go."""
        try:
            part = connection.recv(LONGEST)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        self._said[connection] += part
        if b"\n" in self._said[connection]:
            return True
        if not part or len(self._said[connection]) > LONGEST:
            self._let_go(connection).close()
        return False

    def _let_go(self, connection: socket.socket) -> socket.socket:
        self._selector.unregister(connection)
        del self._said[connection], self._ends[connection]
        return connection


def _register(place: Place, here: dict[int, socket.socket], connection: socket.socket, line: bytes) -> None:
    """Notes who has come and said `line`. What is not one of ours is not answered."""
    try:
        about = json.loads(line.partition(b"\n")[0])
        number, count = int(about["process_id"]), int(about["num_processes"])
        origin = connection.getpeername()[0]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        connection.close()
        return
    connection.settimeout(ANSWER)
    said = f"process {number} of {count} came to {place.coordinator} from {origin}"
    taken = number in here or not 0 < number < place.num_processes
    here[number if not taken else -1 - len(here)] = connection  # it too is told
    if count != place.num_processes:
        raise NotAllHere(f"{said}, but process 0 was started for {place.num_processes}: give all the same number")
    if taken:
        raise NotAllHere(f"{said}, but that number is taken: give each process a process_id of its own")


def _forget_gone(here: dict[int, socket.socket]) -> None:
    """Drops processes that came and have ended since; they may come again."""
    for number, connection in list(here.items()):
        connection.setblocking(False)
        try:
            gone = not connection.recv(1)
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        connection.settimeout(ANSWER)
        if gone:
            here.pop(number).close()


def _who_is_missing(place: Place, here: dict[int, socket.socket], timeout: float) -> str:
    missing = [number for number in range(1, place.num_processes) if number not in here]
    who = f"processes {listing(missing)} of" if len(missing) > 1 else f"process {missing[0]} of"
    return (
        f"{who} {place.num_processes} {'have' if len(missing) > 1 else 'has'} not come to {place.coordinator} within "
        f"{timeout:g} s ({listing([0, *here])} there): see why in its log, or raise config.distributed.timeout_seconds"
    )


def listing(numbers: Iterable[int]) -> str:
    """'0, 4 to 7, 9': in few words."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])]
    return ", ".join(
        f"{run[0][1]} to {run[-1][1]}" if len(run) > 2 else ", ".join(str(number) for _, number in run) for run in runs
    )


def _tell(here: dict[int, socket.socket], message: str) -> None:
    for connection in here.values():
        with contextlib.suppress(OSError):
            connection.sendall(f"{message}\n".encode())


def _report(place: Place, timeout: float) -> None:
    """Another process: comes to process 0 as soon as that is there, and waits for its answer."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = _ask(place, timeout)
        except OSError as error:
            if time.monotonic() > deadline:
                raise NotAllHere(
                    f"process 0 of {place.num_processes} has not come to {place.coordinator} within {timeout:g} s "
                    f"({error}), says process {place.process_id}: see why in its log, and that the address is its own"
                ) from error
            time.sleep(PAUSE)
            continue
        if answer != GO:
            raise NotAllHere(answer)
        return


def _line(connection: socket.socket, seconds: float) -> str:
    """A line, or what there is of it where the other side goes away. TimeoutError where it takes longer in all."""
    end, said = time.monotonic() + seconds, b""
    while b"\n" not in said and len(said) <= LONGEST:
        if (left := end - time.monotonic()) <= 0:
            raise TimeoutError("no answer")
        connection.settimeout(left)
        if not (part := connection.recv(LONGEST)):
            break
        said += part
    return said.decode(errors="replace")


def _ask(place: Place, timeout: float) -> str:
    """What process 0 answers. OSError if it is not there, if it goes away, or if somebody else answers."""
    about = {"process_id": place.process_id, "num_processes": place.num_processes}
    with socket.create_connection(_split(place.coordinator), timeout=ANSWER) as connection:
        if connection.getsockname() == connection.getpeername():  # a port that nobody listens at may meet itself
            raise ConnectionRefusedError("nobody listens there")
        connection.sendall(f"{json.dumps(about)}\n".encode())
        answer = _line(connection, timeout + ANSWER)  # process 0 may have begun to wait just now
    if answer != f"{GO}\n" and not answer.startswith("process"):
        raise ConnectionAbortedError("it went away" if not answer else "another program answers")
    return answer.strip()
