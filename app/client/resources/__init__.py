"""What the service's answers look like to a client.

Unknown fields are kept (`model_extra`), so an older client reads a newer service. Times are Unix seconds.
"""
