"""What a run needs of the machines that it runs on."""
