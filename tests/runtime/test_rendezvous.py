"""The rendezvous of processes, which are threads with sockets of their own here."""

import concurrent.futures
import contextlib
import json
import random
import re
import socket
import threading
import time

import pytest

from stochconv_jax.runtime import rendezvous
from stochconv_jax.runtime.cluster import Place
from tests.conftest import PATIENCE, free_port


@pytest.fixture
def address():
    return f"localhost:{free_port()}"


def place(address, number, count):
    return Place(address, count, number, "a test")


def meet(places, timeout, pauses=()):
    """Returns the exception of each of `places`, or None; they start in a random order, after `pauses` seconds each."""
    order = random.Random(len(places)).sample(range(len(places)), len(places))

    def one(index):
        if pauses:
            time.sleep(pauses[index])
        rendezvous.meet(places[index], timeout)

    with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
        calls = {index: pool.submit(one, index) for index in order}
        return [calls[index].exception() for index in range(len(places))]


def wait_until_open(address):
    host, port = address.split(":")
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, int(port)))


def test_all_meet_and_leave_the_port_free(address):
    for count in (2, 5):  # the second round starts at once, at the same port
        assert meet([place(address, i, count) for i in range(count)], PATIENCE) == [None] * count


@pytest.mark.parametrize("late", [0, 1])
def test_who_comes_late_is_waited_for(address, late):
    pauses = [0.0, 0.0, 0.0]
    pauses[late] = 1.0
    assert meet([place(address, i, 3) for i in range(3)], PATIENCE, pauses) == [None] * 3


@pytest.mark.parametrize(
    "there, words",
    [
        ((0, 1, 3), "process 2 of 4 has not come to {} within 1 s (0, 1, 3 there)"),
        ((0, 5), "processes 1 to 4 of 6 have not come to {} within 1 s (0, 5 there)"),
        ((0,), "processes 1, 2 of 3 have not come to {} within 1 s (0 there)"),
    ],
)
def test_all_that_are_there_say_who_is_missing(address, there, words):
    count = int(re.search(r"of (\d)", words)[1])
    errors = meet([place(address, i, count) for i in there], 1.0)
    assert all(isinstance(error, rendezvous.RendezvousError) for error in errors)
    assert all(str(error).startswith(words.format(address)) for error in errors)


def test_process_0_may_be_the_one_that_is_missing(address):
    for error in meet([place(address, i, 3) for i in (1, 2)], 0.5):
        assert f"process 0 of 3 has not come to {address} within 0.5 s" in str(error)


def test_who_came_and_went_is_missing(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(rendezvous.meet, place(address, 0, 3), 4.0)
        with wait_until_open(address) as gone:
            gone.sendall(json.dumps({"process_id": 1, "num_processes": 3}).encode() + b"\n")
            time.sleep(0.5)
        with pytest.raises(rendezvous.RendezvousError, match=r"processes 1, 2 of 3 have not come .*\(0 there\)"):
            waiting.result()


def test_strangers_are_not_counted(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(rendezvous.meet, place(address, 0, 2), PATIENCE)
        for line in (b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"{}\n", b"[1]\n", b""):
            with wait_until_open(address) as stranger:
                stranger.sendall(line)
        rendezvous.meet(place(address, 1, 2), PATIENCE)
        assert waiting.exception() is None


@contextlib.contextmanager
def trickling(connections):
    """Sends one byte after another, and never a whole line, to each connection while the context is open."""
    stop = threading.Event()

    def trickle():
        while not stop.wait(0.02):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_strangers_that_say_nothing_or_a_byte_at_a_time_hold_nobody_up(address, monkeypatch):
    monkeypatch.setattr(rendezvous, "MESSAGE_SECONDS", PATIENCE)  # so a test that waited for them would not end
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(rendezvous.meet, place(address, 0, 3), PATIENCE)
        strangers = [stack.enter_context(wait_until_open(address)) for _ in range(4)]
        stack.enter_context(trickling(strangers[:2]))
        others = [pool.submit(rendezvous.meet, place(address, i, 3), PATIENCE) for i in (1, 2)]
        assert [call.exception() for call in (waiting, *others)] == [None] * 3


def test_who_does_not_say_its_line_in_time_is_let_go(address, monkeypatch):
    """Closes a connection that sends byte after byte; the missing process is still named in time."""
    monkeypatch.setattr(rendezvous, "MESSAGE_SECONDS", 0.3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(rendezvous.meet, place(address, 0, 2), 4.0)
        with wait_until_open(address) as stranger, trickling([stranger]):
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""  # closed by process 0 before the rendezvous ends
            assert not waiting.done()
            with pytest.raises(rendezvous.RendezvousError, match="process 1 of 2 has not come"):
                waiting.result()


def test_an_answer_has_a_time_as_a_whole(address, monkeypatch):
    """Another program at process 0's address sends byte after byte and never a whole line."""
    monkeypatch.setattr(rendezvous, "MESSAGE_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("localhost", int(address.split(":")[1]))))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        waiting = pool.submit(rendezvous.meet, place(address, 1, 2), 0.3)
        connections = [stack.enter_context(server.accept()[0])]
        stack.enter_context(trickling(connections))
        server.settimeout(0.1)
        while not waiting.done():
            with contextlib.suppress(TimeoutError):
                connections.append(stack.enter_context(server.accept()[0]))
        with pytest.raises(rendezvous.RendezvousError, match="process 0 of 2 has not come"):
            waiting.result()


def test_another_program_at_the_address_is_not_process_0(address):
    with socket.create_server(("localhost", int(address.split(":")[1]))) as server:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            waiting = pool.submit(rendezvous.meet, place(address, 1, 2), 0.5)
            server.settimeout(0.1)
            while not waiting.done():
                with contextlib.suppress(TimeoutError), server.accept()[0] as connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")
            with pytest.raises(
                rendezvous.RendezvousError, match=r"process 0 of 2 has not come .*another program answers"
            ):
                waiting.result()
        with pytest.raises(rendezvous.RendezvousError, match=f"process 0 cannot listen at {address}"):
            rendezvous.meet(place(address, 0, 2), 0.5)


def test_a_number_that_is_taken_and_another_count_end_all(address):
    taken = meet([place(address, i, 3) for i in (0, 1, 1)], PATIENCE)
    assert all("process 1 of 3 came" in str(error) and "that number is taken" in str(error) for error in taken)
    other = meet([place(address, 0, 2), place(address, 1, 4)], PATIENCE)
    assert all(
        "process 1 of 4 came" in str(error) and "process 0 was started with num_processes=2" in str(error)
        for error in other
    )
