"""Compare the forms of `export` with the run on its held-out images: python scripts/compare_exports.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("export_comparison")
