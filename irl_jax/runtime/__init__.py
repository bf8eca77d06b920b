"""The machine that a run uses: devices, processes, files, memory, signals and logs."""
