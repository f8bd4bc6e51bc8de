"""Devices to compile for that are not there: XLA's compilers run without them."""

import os
from pathlib import Path

# The figures of an H100 SXM, as XLA's own description of it has them: openxla/xla,
# xla/backends/gpu/target_config/specs/h100_sxm.txtpb.
H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
TARGETS = {"h100": "H100", "v5e:2x2": "TPU v5e"}


def prepare():
    """Sets what the compilers read from the environment; before JAX is imported."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Without a GPU nothing can be tried out for speed.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()
    # Without these libtpu looks for the machines of a cloud.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
    # Its lock is for a chip that only one process can have.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"


def devices(target, count):
    """`count` devices of `"h100"`, of a TPU's topology such as `"v5e:2x2"`, or of a GPU
    that a file of XLA's (`*.txtpb`, a GpuTargetConfigProto) describes."""
    from jax.experimental import topologies

    if ":" in target:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=target)
    else:
        text = H100 if target == "h100" else Path(target).read_text(encoding="utf-8")
        topology = topologies.get_topology_desc(
            "", "cuda", target_config=text, topology=f"1x1x{count}"
        )
    return topology.devices[:count]


def described():
    """A context in which kernels are written for an H100.

    Triton's kernels are made for the GPU of the machine; from JAX 0.11 on it has to be
    described where there is none.
    """
    from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

    device = AbstractDevice("NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=device))


def shardings(target, count=1):
    """Where a batch lies, and where weights lie: on each of `count` devices."""
    import jax
    import numpy as np

    mesh = jax.sharding.Mesh(np.array(devices(target, count)), ("batch",))
    axes = jax.sharding.PartitionSpec
    return tuple(jax.sharding.NamedSharding(mesh, axes(*a)) for a in (["batch"], []))
