"""How a run uses its machine: devices, processes, files, memory, signals and logs."""
