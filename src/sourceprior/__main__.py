"""`python -m sourceprior` is the command `sourceprior`."""

from sourceprior.cli import main

if __name__ == "__main__":
    main()
