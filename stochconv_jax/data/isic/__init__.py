"""Prepares the ISIC challenges of 2016 to 2020: from their label files and images to a data set for training."""
