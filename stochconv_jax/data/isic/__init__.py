"""Prepares the ISIC challenges, and images of the ISIC archive: from label files and images to data for training."""
