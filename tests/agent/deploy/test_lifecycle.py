from __future__ import annotations

from edgeflow_agent.deploy.lifecycle import backoff_ns, effective, offered, withdrawn
from edgeflow_agent.store.state import Deployment, OfferRecord


def test_the_relay_wins_over_a_local_put_and_that_over_the_folder() -> None:
    deployment = Deployment()
    for origin in ("folder", "http", "relay"):
        deployment = offered(deployment, origin, OfferRecord(origin))
        assert effective(deployment) == (origin, OfferRecord(origin))
    assert effective(withdrawn(deployment, "relay")) == ("http", OfferRecord("http"))


def test_nobody_wanting_it_means_nothing_runs() -> None:
    assert effective(Deployment()) is None
    assert effective(withdrawn(offered(Deployment(), "http", OfferRecord("a")), "http")) is None


def test_a_newer_offer_of_an_origin_replaces_its_older_one() -> None:
    deployment = offered(offered(Deployment(), "http", OfferRecord("a")), "http", OfferRecord("b"))
    assert effective(deployment) == ("http", OfferRecord("b"))


def test_waiting_grows_and_is_bounded() -> None:
    waits = [backoff_ns(deaths, 30 * 10**9) for deaths in range(1, 40)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == 30 * 10**9
