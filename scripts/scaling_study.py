"""Time a training step of 1, 2, 4 and 8 replicas, and estimate it on GPUs: python scripts/scaling_study.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("scaling")
