"""The processes that ``mpiexec`` has started, as the command line sees them."""

import os
from typing import Any

import tinyconv as tc
from tinyconv.backend import use_gpu
from tinyconv.engines.ranks import Ranks

#: Where the launchers of MPICH, Open MPI and Slurm tell how many processes they have started.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def started_ranks(device: str) -> Ranks:
    """Return the processes that were started together; this one alone if there are no others.

    Those of one machine share its cores, and have a GPU each where the device is ``"gpu"``.

    Raises:
        ImportError: there are others, and mpi4py is not installed.
    """
    if all(int(os.environ.get(name) or 1) == 1 for name in SIZES):
        return Ranks(None)
    try:
        from mpi4py import MPI
    except ImportError:
        raise ImportError(
            'several processes were started, which needs mpi4py: pip install "tinyconv[mpi]"'
        ) from None
    comm: Any = MPI.COMM_WORLD
    beside = comm.Split_type(MPI.COMM_TYPE_SHARED)
    tc.set_num_threads(max(1, tc.get_num_threads() // beside.Get_size()))
    if device == "gpu":
        use_gpu(beside.Get_rank(), beside.Get_size())
    return Ranks(comm)
