"""What every room uses: errors, files, checkpoints, processes."""
