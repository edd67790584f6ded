"""Running the service: health, capabilities, housekeeping."""
