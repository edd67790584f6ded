"""What a job will take, before it runs: tokens, hours, memory, disk, and what stands behind each figure."""
