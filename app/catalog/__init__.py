"""What jobs read: uploaded files, and registered models (sources and fused results)."""
