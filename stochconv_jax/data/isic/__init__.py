"""The ISIC challenges of 2016 to 2020: from the archives' label files and images to a data set ready for training."""
