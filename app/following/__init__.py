"""Following a job: its events as a stream, its curves as columns, what its attempts wrote to their logs."""
