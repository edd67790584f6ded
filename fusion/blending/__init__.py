"""Blending: how the rows of several sources become one."""
