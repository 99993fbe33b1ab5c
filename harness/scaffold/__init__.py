"""What new workspaces, competitions and strategies begin as. The wheel adds a copy of kernels/."""
