"""Real images on which detail may decide: builders of image folders from public archives, and what windows gain there.

No image is part of this project. Each builder reads a copy that the user has fetched, checks it, and writes a folder
of images with labels.csv, which `main.py` takes as any other folder.
"""
