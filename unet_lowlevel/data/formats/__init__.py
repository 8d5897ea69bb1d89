"""From files to arrays, and back: images, TIFF stacks, NIfTI volumes, DICOM series."""
