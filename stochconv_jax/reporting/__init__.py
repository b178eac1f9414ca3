"""What --mode=report makes of run folders; knows no training code."""
