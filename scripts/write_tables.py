"""Write the tables of the three implementations into their README: python scripts/write_tables.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("readme_tables")
