"""`python -m ilk`, which is what torchrun starts."""

from ilk.cli import main

if __name__ == "__main__":
    main()
