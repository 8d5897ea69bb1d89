"""Measure packed data beside files: python scripts/time_packing.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("packing_times")
