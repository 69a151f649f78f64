"""Dask's no-op tasks a second: peer_dask.py TASKS."""
import sys
import time

from distributed import Client, LocalCluster


def noop(number):
    return b"r" * 600


def main():
    tasks = int(sys.argv[1])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, \
            Client(cluster) as client:
        client.gather(client.map(noop, range(200), pure=False))
        began = time.monotonic()
        client.gather(client.map(noop, range(tasks), pure=False))
        print(tasks / (time.monotonic() - began))


if __name__ == "__main__":
    main()
