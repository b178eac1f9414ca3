"""The processes meet before JAX connects them, for it ends a process without a word of who is missing. No JAX here."""
import contextlib
import itertools
import json
import socket
import time
from collections.abc import Iterable

from stochconv_jax.training.launch import Place

GO = "go"
PAUSE = 0.2  # seconds between two looks
ANSWER = 5.0  # seconds that a message may be under way


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
        server = stack.enter_context(_listen(place))
        here: dict[int, socket.socket] = {}
        try:
            while len(here) < place.num_processes - 1:
                _forget_gone(here)
                if time.monotonic() > deadline:
                    raise NotAllHere(_who_is_missing(place, here, timeout))
                with contextlib.suppress(TimeoutError):
                    connection = stack.enter_context(server.accept()[0])
                    _register(place, here, connection)
        except NotAllHere as error:
            _tell(here, str(error))
            raise
        _tell(here, GO)
        for connection in here.values():  # closed there first, so that the port is free for JAX at once
            with contextlib.suppress(OSError):
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
    server.settimeout(PAUSE)
    return server


def _register(place: Place, here: dict[int, socket.socket], connection: socket.socket) -> None:
    """Reads who has come. What is not one of ours is not answered."""
    connection.settimeout(ANSWER)
    try:
        about = json.loads(connection.makefile().readline())
        number, count = int(about["process_id"]), int(about["num_processes"])
    except (OSError, ValueError, TypeError, KeyError):
        connection.close()
        return
    said = f"process {number} of {count} came to {place.coordinator} from {connection.getpeername()[0]}"
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


def _ask(place: Place, timeout: float) -> str:
    """What process 0 answers. OSError if it is not there, if it goes away, or if somebody else answers."""
    about = {"process_id": place.process_id, "num_processes": place.num_processes}
    with socket.create_connection(_split(place.coordinator), timeout=ANSWER) as connection:
        if connection.getsockname() == connection.getpeername():  # a port that nobody listens at may meet itself
            raise ConnectionRefusedError("nobody listens there")
        connection.sendall(f"{json.dumps(about)}\n".encode())
        connection.settimeout(timeout + ANSWER)  # process 0 may have begun to wait just now
        answer = connection.makefile(errors="replace").readline()
    if answer != f"{GO}\n" and not answer.startswith("process"):
        raise ConnectionAbortedError("it went away" if not answer else "another program answers")
    return answer.strip()
