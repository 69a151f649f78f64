"""Ray's no-op tasks a second: peer_ray.py TASKS."""
import sys
import time

import ray

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)


@ray.remote
def noop(spec):
    return b"r" * 600


spec = b"s" * 200
ray.get([noop.remote(spec) for _ in range(200)])
tasks = int(sys.argv[1])
began = time.monotonic()
ray.get([noop.remote(spec) for _ in range(tasks)])
print(tasks / (time.monotonic() - began))
