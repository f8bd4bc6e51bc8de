"""Prints what XLA's compilers make of a layer for an H100 and a TPU."""
import argparse
import time

import targets

targets.prepare()

import jax
import numpy as np

import hlo
import programs

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="h100")
    parser.add_argument("--norms", nargs="+", default=["BN", "EN"])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--jobs", nargs="+", default=["training", "training in a network", "inference"])
    parser.add_argument("--shape", default="64,56,56,256")
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--text", help="folder for the program texts")
    o = parser.parse_args()
    sharding = jax.sharding.SingleDeviceSharding(targets.devices(o.target)[0])
    shape = tuple(map(int, o.shape.split(",")))
    for dtype in o.dtypes:
        tensor = np.prod(shape) * (4 if dtype == "float32" else 2)
        for norm in o.norms:
            print(f"{norm} {dtype}: kept for the backward pass {programs.residuals(norm, shape, dtype) / tensor:.2f} tensors", flush=True)
            for job in o.jobs:
                f, a = programs.layer_program(norm, shape, dtype, job, sharding)
                lowered = jax.jit(f).lower(*a)
                t = time.process_time()
                compiled = lowered.compile()
                t = time.process_time() - t
                text = compiled.as_text()
                ks = hlo.kernels(text)
                temp = compiled.memory_analysis().temp_size_in_bytes
                print(f"{o.target} {norm} {dtype} {job}: passes {sum(k.bytes for k in ks) / tensor:.3f}, kernels {len(ks)}, temporary memory {temp / tensor:.3f}, compile {t:.1f} s of processor time", flush=True)
                if o.kernels:
                    for k in ks:
                        print(f"    {k.read / tensor:8.4f} {k.written / tensor:8.4f} {k.opcode:12} {k.name:40} {k.source}")
                if o.text:
                    open(f"{o.text}/{o.target}-{norm}-{dtype}-{job}.txt".replace(" ", "_"), "w").write(text)

main()
