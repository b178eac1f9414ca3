"""One process at a time holds a lease, whatever the order of its requests and wherever one is killed."""

import pytest

from stochconv_jax.buckets import lease
from stochconv_jax.buckets.lease import DEAD_SECONDS, Lease, Lost


class Clock:
    """A clock that sleeping advances. `during` is called while a process sleeps."""

    def __init__(self, during=lambda: None):
        self.seconds, self.during = 0.0, during

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds
        self.during()


def lease_of(store, clock=None, purpose="train"):
    clock = clock or Clock()
    return Lease(store, purpose, now=clock.now, sleep=clock.sleep)


def test_a_released_lease_is_taken_at_once(store):
    for _ in range(3):
        (one := lease_of(store, clock := Clock())).take()
        assert clock.seconds == 0
        one.renew()
        one.release()
    assert len(store.names()) == 1


def test_a_lease_in_use_is_refused_with_its_holder(store):
    (one := lease_of(store)).take()
    clock = Clock(during=one.renew)
    with pytest.raises(RuntimeError, match=rf"another process works in {store.path} \(process \d+ on .+\): wait for"):
        lease_of(store, clock).take()
    assert clock.seconds < DEAD_SECONDS
    one.check()


def test_a_lease_that_is_released_during_the_wait_is_taken(store):
    (one := lease_of(store)).take()
    (other := lease_of(store, clock := Clock(during=one.release))).take()
    assert clock.seconds < DEAD_SECONDS
    other.check()


def test_the_lease_of_a_killed_process_is_taken_and_it_ends_should_it_live(store):
    (killed := lease_of(store)).take()
    (other := lease_of(store, clock := Clock())).take()
    assert clock.seconds >= DEAD_SECONDS
    for action in (killed.check, killed.renew):
        with pytest.raises(Lost, match="another has taken over"):
            action()
    other.renew()
    assert len(store.names()) == 1


def test_half_an_object_is_that_of_a_process_that_may_live_or_be_dead(store):
    (killed := lease_of(store)).take()
    (name,) = store.names()
    store.write(name, store.read(name)[:9])
    with pytest.raises(RuntimeError, match="another process works"):
        lease_of(store, Clock(during=killed.renew)).take()
    store.write(name, b"")
    lease_of(store, clock := Clock()).take()
    assert clock.seconds >= DEAD_SECONDS


def test_processes_of_different_modes_do_not_exclude_each_other(store):
    leases = [lease_of(store, purpose=mode) for mode in ("train", "evaluate")]
    for one in leases:
        one.take()
    for one in leases:
        one.check()


@pytest.mark.parametrize("moment", ["the last look at it", "the request for it"])
def test_of_two_that_wait_for_the_lease_of_a_killed_process_one_gets_it(store, monkeypatch, moment):
    lease_of(store).take()  # and is killed
    other, create = lease_of(store), store.create

    def during():
        if clock.seconds >= DEAD_SECONDS and not other._number and moment == "the last look at it":
            other.take()
        elif other._number:
            other.renew()

    def create_second(name, content):
        if not other._number:
            monkeypatch.setattr(store, "create", create)
            other.take()
        return create(name, content)

    if moment == "the request for it":
        monkeypatch.setattr(store, "create", create_second)
    clock = Clock(during)
    with pytest.raises(RuntimeError, match="another process works in"):
        lease_of(store, clock).take()
    other.check()


def test_a_store_without_conditional_writes_is_named(store, monkeypatch, caplog):
    def replace(name, content):
        store.write(name, content)
        return True

    monkeypatch.setattr(store, "create", replace)
    (one := lease_of(store)).take()
    assert "is in a store without locks: make sure that no other process works in it" in caplog.text
    one.check()


def test_a_lease_is_renewed_often_before_it_counts_as_dead():
    assert DEAD_SECONDS >= 5 * lease.RENEW_SECONDS and lease.POLL_SECONDS < lease.RENEW_SECONDS
