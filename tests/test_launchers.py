"""The files of docs/launchers that need no cluster to be tested; tests/clusters runs the others."""

import os
import signal
import subprocess
import sys

import pytest
import yaml

from stochconv_jax.runtime.watchdog import STOPPED
from tests.clusters.runs import ENVIRON, LAUNCHERS, flags, slow_python
from tests.conftest import PATIENCE, ROOT, free_port
from tests.modes.runs import wait_for_step

AGAIN = {STOPPED, 128 + signal.SIGTERM}  # the exit codes after which the same command is to run again


@pytest.mark.parametrize("script", sorted(LAUNCHERS.glob("*.sh")), ids=lambda script: script.name)
def test_a_script_can_be_read_by_the_shell(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_kubernetes_counts_no_pod_as_failed_that_has_stopped_and_saved():
    service, job = yaml.safe_load_all((LAUNCHERS / "kubernetes.yaml").read_text())
    evicted, ended = job["spec"]["podFailurePolicy"]["rules"]
    assert evicted["onPodConditions"][0]["type"] == "DisruptionTarget" and ended["action"] == "Ignore"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert ended["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": sorted(AGAIN)}
    names = {variable["name"]: variable["value"] for variable in container["env"]}
    assert names["JAX_NUM_PROCESSES"] == str(job["spec"]["completions"]) == str(job["spec"]["parallelism"])
    assert names["JAX_COORDINATOR_ADDRESS"].startswith(f"{job['metadata']['name']}-0.{service['metadata']['name']}:")


@pytest.mark.slow
def test_processes_of_one_machine_stop_with_their_script_and_go_on(tmp_path):
    def start(python):
        environ = {"COUNT": "2", "PORT": str(free_port()), "PYTHON": str(python)}
        words = flags(tmp_path / "run", checkpoint__every_steps=1)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
        script = ["bash", LAUNCHERS / "processes.sh", *words]
        return subprocess.Popen(script, env=os.environ | ENVIRON | environ, **streams)

    process = start(slow_python(tmp_path, unless="false"))
    wait_for_step(process, tmp_path / "run", step=2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == STOPPED and "stopped and saved at step" in output, output
    process = start(sys.executable)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "finished at step 13" in output, output
