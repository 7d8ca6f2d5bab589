"""Several scrapes as one: sums that never fall, and gauges by what they mean."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from meshlib.telemetry.summed_scrapes import ScrapeSums, parsed


class Worker:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("istio_requests_total", "Requests.", ["path"], registry=self.registry)
        self.seconds = Histogram("seconds", "Durations.", buckets=[1.0, 2.0], registry=self.registry)
        self.active = Gauge("meshlib_attempts_active", "Under way.", registry=self.registry)
        self.age = Gauge("meshlib_config_age_seconds", "Age.", registry=self.registry)
        self.healthy = Gauge("meshlib_endpoints_healthy", "Healthy.", registry=self.registry)

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


def values(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_counters_and_histograms_are_added_up() -> None:
    one, two = Worker(), Worker()
    one.requests.labels("/a b}").inc(3)
    two.requests.labels("/a b}").inc(4)
    two.requests.labels('/"c"').inc()
    one.seconds.observe(0.5)
    two.seconds.observe(1.5)
    found = values(ScrapeSums().combined({1: one.text, 2: two.text}))
    assert found["istio_requests_total", "path=/a b}"] == 7
    assert found["istio_requests_total", 'path=/"c"'] == 1
    assert found["seconds_bucket", "le=1.0"] == 1
    assert found["seconds_bucket", "le=+Inf"] == 2
    assert (found["seconds_sum", ""], found["seconds_count", ""]) == (2.0, 2)


def test_gauges_are_added_up_or_the_worst_counts() -> None:
    from meshlib.telemetry.written_state import LEAST

    one, two = Worker(), Worker()
    one.active.set(2), two.active.set(5)
    one.age.set(10), two.age.set(30)
    found = values(ScrapeSums().combined({1: one.text, 2: two.text}))
    assert found["meshlib_attempts_active", ""] == 7
    assert found["meshlib_config_age_seconds", ""] == 30
    least = next(iter(sorted(family.name for family in LEAST)))
    texts = [f"# HELP {least} x\n# TYPE {least} gauge\n{least} {n}\n" for n in (4.0, 3.0)]
    assert values(ScrapeSums().combined(dict(enumerate(texts))))[least, ""] == 3


def test_what_a_worker_that_has_ended_counted_stays_in_the_sum() -> None:
    sums, one, two, three = ScrapeSums(), Worker(), Worker(), Worker()
    one.requests.labels("/").inc(100)
    two.requests.labels("/").inc(1)
    one.active.set(9)
    sums.combined({1: one.text, 2: two.text})
    three.requests.labels("/").inc(5)
    found = values(sums.combined({2: two.text, 3: three.text}))
    assert found["istio_requests_total", "path=/"] == 106
    assert found["meshlib_attempts_active", ""] == 0, "it holds nothing any more"
    assert values(sums.combined({2: two.text, 3: three.text}))["istio_requests_total", "path=/"] == 106


def test_a_family_that_no_living_worker_has_is_still_there() -> None:
    sums, one = ScrapeSums(), Worker()
    one.requests.labels("/").inc(100)
    sums.combined({1: one.text})
    assert values(sums.combined({}))["istio_requests_total", "path=/"] == 100


def test_of_a_worker_that_does_not_respond_the_last_scrape_counts() -> None:
    sums, one, two = ScrapeSums(), Worker(), Worker()
    one.requests.labels("/").inc(100)
    two.requests.labels("/").inc(1)
    sums.combined({1: one.text, 2: two.text})
    assert values(sums.combined({1: None, 2: two.text}))["istio_requests_total", "path=/"] == 101
    one.requests.labels("/").inc()
    assert values(sums.combined({1: one.text, 2: two.text}))["istio_requests_total", "path=/"] == 102
    assert sums.combined({7: None, 1: one.text, 2: two.text})


def test_infinity_and_nothing_are_written_as_prometheus_reads_them() -> None:
    text = "# TYPE a gauge\na 1.0\n# TYPE b gauge\nb +Inf\n# TYPE c gauge\nc NaN\n"
    assert ScrapeSums().combined({1: text, 2: text.replace("c NaN", "c 2")}) == (
        "# TYPE a gauge\na 1.0\n# TYPE b gauge\nb +Inf\n# TYPE c gauge\nc 2.0\n"
    )


def test_lines_that_are_no_series_are_left_out() -> None:
    assert parsed("# EOF\n\nnonsense\nname x\n") == {}
