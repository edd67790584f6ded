"""Publishing models: copying them to a hub, a bucket or a registry outside of the service."""
