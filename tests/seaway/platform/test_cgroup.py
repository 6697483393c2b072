import os

import pytest

from seaway.platform import cgroup

MIB = 1 << 20
NO_LIMIT_V1 = "9223372036854771712"


@pytest.fixture
def root(tmp_path):
    """Makes a machine's root: /proc/self/cgroup, and files under /sys/fs/cgroup by their path there."""

    def make(membership, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    "quota, expected",
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("900000 100000", 8)],
)
def test_version_2_rounds_the_quota_down_to_whole_cores(root, quota, expected):
    made = root("0::/\n", **{"cpu.max": quota})
    assert cgroup.cores(made, affinity=8) == expected


def test_version_2_memory(root):
    assert cgroup.memory_bytes(root("0::/\n", **{"memory.max": str(512 * MIB)})) == 512 * MIB


def test_version_2_without_a_limit(root):
    assert cgroup.memory_bytes(root("0::/\n", **{"memory.max": "max"})) is None


def test_the_smallest_limit_on_the_path_up_holds(root):
    made = root(
        "0::/kubepods/pod1/box\n",
        **{
            "kubepods/pod1/box/cpu.max": "max 100000",
            "kubepods/pod1/cpu.max": "300000 100000",
            "kubepods/cpu.max": "1600000 100000",
            "kubepods/pod1/box/memory.max": str(900 * MIB),
            "kubepods/pod1/memory.max": str(700 * MIB),
            "kubepods/memory.max": "max",
            "other/cpu.max": "100000 100000",
            "other/memory.max": str(MIB),
        },
    )
    assert cgroup.cores(made, affinity=64) == 3
    assert cgroup.memory_bytes(made) == 700 * MIB


def test_version_1(root):
    made = root(
        "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
        **{
            "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/docker/cpu.cfs_quota_us": "250000",
            "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
            "memory/docker/abc/memory.limit_in_bytes": str(256 * MIB),
            "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        },
    )
    assert cgroup.cores(made, affinity=64) == 2
    assert cgroup.memory_bytes(made) == 256 * MIB


def test_version_1_without_a_limit(root):
    made = root("4:memory:/\n", **{"memory/memory.limit_in_bytes": NO_LIMIT_V1})
    assert cgroup.memory_bytes(made) is None


def test_a_container_that_cannot_see_its_own_path_finds_its_limits_at_the_root(root):
    made = root(
        "4:memory:/kubepods/pod1/box\n0::/../../elsewhere\n",
        **{"memory/memory.limit_in_bytes": str(64 * MIB), "cpu.max": "100000 100000"},
    )
    assert cgroup.memory_bytes(made) == 64 * MIB
    assert cgroup.cores(made, affinity=4) == 1


def test_version_1_mounted_under_its_first_controller_alone(root):
    made = root(
        "4:cpu:/kubepods/burstable/pod1/box\n0::/\n",
        **{
            "cpu/kubepods/burstable/pod1/box/cpu.cfs_quota_us": "250000",
            "cpu/kubepods/burstable/pod1/box/cpu.cfs_period_us": "50000",
            "cpu/kubepods/burstable/pod1/cpu.cfs_quota_us": "-1",
            "cpu/kubepods/burstable/pod1/cpu.cfs_period_us": "100000",
        },
    )
    assert cgroup.cores(made, affinity=64) == 5
    assert cgroup.cores(made, affinity=3) == 3


def test_both_versions_at_once(root):
    made = root(
        "4:memory:/a\n0::/b\n",
        **{"memory/a/memory.limit_in_bytes": str(64 * MIB), "unified/b/cpu.max": "200000 100000"},
    )
    assert cgroup.memory_bytes(made) == 64 * MIB
    assert cgroup.cores(made, affinity=4) == 2


@pytest.mark.parametrize("text", ["", "0 0", "100000", "a b", "100000 0", "-1 100000", "\0"])
def test_what_does_not_read_limits_nothing(root, text):
    made = root("nonsense\n0::relative\n0::/\n", **{"cpu.max": text, "memory.max": text})
    assert cgroup.cores(made, affinity=4) == 4
    assert cgroup.memory_bytes(made) == (100000 if text == "100000" else None)


def test_where_no_affinity_is_told_all_of_the_machine_counts(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cgroup.cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cgroup.cores(tmp_path) == 1


def test_without_cgroups_the_affinity_holds(tmp_path):
    assert cgroup.cores(tmp_path) == len(os.sched_getaffinity(0))
    assert cgroup.memory_bytes(tmp_path) is None


def test_this_machine():
    assert 1 <= cgroup.cores() <= len(os.sched_getaffinity(0))
    memory = cgroup.memory_bytes()
    assert memory is None or memory > 64 * MIB
