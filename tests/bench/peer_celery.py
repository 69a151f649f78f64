"""Celery's application for the benchmark; run as a program it measures: peer_celery.py TASKS."""
import os
import sys
import time

from celery import Celery

app = Celery("peer_celery", broker=os.environ["QSWEEP_BENCH_REDIS"] + "/0",
             backend=os.environ["QSWEEP_BENCH_REDIS"] + "/1")
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=32, task_serializer="json",
                broker_pool_limit=4, worker_send_task_events=False,
                broker_connection_retry_on_startup=True)


@app.task
def noop(spec):
    return "r" * 600


def main():
    tasks = int(sys.argv[1])
    results = app.backend.client
    while not app.control.ping(timeout=1):
        pass
    noop.delay("first").get(timeout=60)
    app.control.cancel_consumer("celery", reply=True)
    results.flushdb()
    with app.producer_or_acquire() as producer:
        for _ in range(tasks):
            noop.apply_async(("s" * 200,), producer=producer)
    began = time.monotonic()
    app.control.add_consumer("celery", reply=False)
    while results.dbsize() < tasks:
        time.sleep(0.005)
    print(tasks / (time.monotonic() - began))


if __name__ == "__main__":
    main()
